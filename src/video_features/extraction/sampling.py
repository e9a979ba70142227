"""What a feature takes of a source: frames (every one, a rate's, or a number of them), or windows of sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import soxr

from ..errors import MediaError, counted
from ..media import Frame, FrameTrack, Sound, SoundTrack, Track, Wants
from ..settings import ClipSettings, FrameSettings, PictureSettings
from ..timeline.rates import ConstantRate, as_fraction, rate_for_total, round_half_away
from ..timeline.segments import Segment, in_seconds
from ..timeline.windows import SoundWindow

SPARSE = 2  # so many times as many frames has a video, and more, of which not all are decoded


@dataclass(frozen=True)
class Excerpt:
    """A window of sound.

    seconds, end_seconds: from when until when; the container's start is 0
    samples: float32 (n,), the mean of the channels, −1 … 1
    padding: how many frames of its spectrogram reach beyond the sound's end, where there is silence
    """

    seconds: Fraction
    end_seconds: Fraction
    samples: npt.NDArray[np.float32]
    padding: int


class Sampler(Protocol):
    """Takes what one feature needs from one track: what lies in a segment of it, or in the whole.

    track: whose samples it takes; in a segment at the latest from what is shown, or heard, at its start on
    fps: frames per second taken, the source's average where every frame is; of sound, rows per second
    taken: how many frames, or samples of sound, so far
    padded_with: what `tail=pad` fills a row up with, in words
    takes_more: which setting would make it take more, in words; empty where none does
    has_enough: whether it would take no more of what comes, as the segment is over
    segment: the part of the track that it takes
    pads: whether it fills up its last window itself
    can_pad_windows: whether windows of what it takes can be padded (`tail=pad`)
    """

    fps: Fraction
    taken: int
    padded_with: ClassVar[str]
    takes_more: str
    has_enough: bool
    segment: Segment
    pads: bool
    can_pad_windows: bool

    @property
    def track(self) -> Track: ...

    def take(self, sample: Any) -> Iterator[Frame | Excerpt]:
        """What the track's next sample makes ready."""

    def finish(self) -> Iterator[Frame | Excerpt]:
        """What is left when the track has ended."""

    def expected(self) -> int:
        """How much it will take, by what the track states of itself before it is decoded."""

    def items(self, taken: int) -> int:
        """The number of frames, or of windows of sound, in so much of it."""

    def least(self, items: int, *, padded: bool) -> int:
        """How much it has to take for so many of them; padded: if the tail were padded."""

    def in_words(self, taken: int) -> str:
        """So much of it, in words."""

    def check_start(self, end: Fraction | None, *, off_by: int = 0) -> None:
        """Raise MediaError where the segment starts after the end of the track.

        end: in seconds, by at most `off_by` too early; None where it is not known
        """


class FrameSampler:
    """Takes one feature's frames. See `Sampler`."""

    padded_with: ClassVar[str] = "repeats the last one to fill a row"
    pads = False

    def __init__(self, settings: PictureSettings, track: FrameTrack, segment: Segment | None = None) -> None:
        self.track = track
        self.segment = segment or Segment()
        self.can_pad_windows = isinstance(settings, ClipSettings)
        self._total = settings.extraction_total if isinstance(settings, FrameSettings) else None
        self._rate: ConstantRate | None = None
        if settings.extraction_fps is not None:
            self._rate = ConstantRate(as_fraction(settings.extraction_fps))
        elif self._total is not None:
            # Where the header says that the segment has no frame, its frames themselves will tell.
            count = track.frame_count()
            share = self.segment.share(track.start_seconds, _end_seconds(track, count)) or 1
            self._rate = ConstantRate(rate_for_total(self._total, track.fps, count * share), self.segment.start)
        self.fps = track.fps if self._rate is None else self._rate.fps
        self.taken = 0
        self.has_enough = False
        setting = "extraction_total" if settings.extraction_fps is None else "extraction_fps"
        self.takes_more = "" if self.fps == track.fps else f"a higher {setting} takes more"

    @property
    def is_sparse(self) -> bool:
        """Whether it takes so few frames that it may be worth it not to decode the others."""
        return self._rate is not None and self._rate.fps * SPARSE <= self.track.fps

    def wants(self, seconds: Fraction, end_seconds: Fraction) -> bool:
        """Whether it may take a frame that is shown so long, or one of several that are, shown after one another."""
        rate = self._rate
        if rate is None:
            return True
        ticks = rate.all_ticks(seconds, end_seconds)
        return len(self.segment.cut(ticks, rate.fps, rate.origin)) > 0

    def take(self, sample: Frame) -> Iterator[Frame]:
        """The frame, once for every time that it is taken, shown when that is."""
        shown, goes_on_at = self._shown(sample)
        self.has_enough = self.segment.is_over(goes_on_at)
        for frame in shown:
            if self.taken == self._total:
                return
            self.taken += 1
            yield frame

    def finish(self) -> Iterator[Frame]:
        return iter(())

    def expected(self) -> int:
        track, rate = self.track, self._rate
        if rate is None:
            return len(self.segment.cut(range(track.frame_count()), track.fps, track.start_seconds))
        ticks = rate.all_ticks(track.start_seconds, _end_seconds(track))
        count = len(self.segment.cut(ticks, rate.fps, rate.origin))
        return count if self._total is None else min(count, self._total)

    def items(self, taken: int) -> int:
        return taken

    def least(self, items: int, *, padded: bool) -> int:
        return items

    def in_words(self, taken: int) -> str:
        return counted(taken, "frame") + ("" if self.fps == self.track.fps else f" at {float(self.fps):g} fps")

    def check_start(self, end: Fraction | None, *, off_by: int = 0) -> None:
        _check_start("video", self.segment, end, off_by)

    def _shown(self, frame: Frame) -> tuple[list[Frame], Fraction]:
        """The frame as often as it is taken, and when the next one would be at the earliest."""
        rate = self._rate
        if rate is None:
            return [frame] if self.segment.holds(frame.seconds) else [], frame.end_seconds
        ticks = rate.ticks(frame.seconds, frame.end_seconds)
        taken = self.segment.cut(ticks, rate.fps, rate.origin)
        return [frame.shown(rate.seconds(tick), rate.seconds(tick + 1)) for tick in taken], rate.seconds(ticks.stop)


class SoundSampler:
    """Resamples a sound and cuts it into windows; holds no more than one and a piece. See `Sampler`.

    A segment is cut out of what is resampled, so that its samples are those of the whole sound. Its first row starts
    with it, or with the sound where that is later.
    """

    padded_with: ClassVar[str] = "fills a row up with silence"
    takes_more = ""
    can_pad_windows = False

    def __init__(self, window: SoundWindow, track: SoundTrack, segment: Segment | None = None) -> None:
        self.track = track
        self.segment = segment or Segment()
        self.pads = window.tail == "pad"
        self.fps = 1 / window.step_seconds
        self.taken = 0
        self.has_enough = False
        self._window = window
        self._started: Fraction | None = None  # when the sound did
        self._resampled = 0  # samples since then
        self._row = 0
        self._held = np.empty(0, np.float32)  # the samples from the next row's start on
        self._from_rate: int | None = None
        self._resampler: Any = None  # soxr's; none where the rate is the window's

    def take(self, sample: Sound) -> Iterator[Excerpt]:
        """The windows that the piece of sound completes."""
        if self._started is None:
            self._started = sample.seconds
        mono = sample.samples.mean(axis=1, dtype=np.float32) / np.float32(1 << 15)
        for samples in self._at_the_rate(mono, sample.rate):
            yield from self._cut(samples)

    def finish(self) -> Iterator[Excerpt]:
        """The windows of what the resampler held back, and that of the tail where it is to be padded."""
        yield from self._cut(self._flushed())
        if self._row < self._window.rows(self.taken):
            silence = np.zeros(self._window.size - len(self._held), np.float32)
            yield self._excerpt(np.concatenate([self._held, silence]))

    def expected(self) -> int:
        samples = round_half_away(self.track.duration() * self._window.rate)  # as soxr does
        return len(self.segment.cut(range(samples), self._window.rate, self.track.start_seconds))

    def items(self, taken: int) -> int:
        return self._window.rows(taken)

    def least(self, items: int, *, padded: bool) -> int:
        return (replace(self._window, tail="pad") if padded else self._window).least(items)

    def in_words(self, taken: int) -> str:
        return f"{round(taken / self._window.rate, 4):g} s of sound"

    def check_start(self, end: Fraction | None, *, off_by: int = 0) -> None:
        _check_start("sound", self.segment, end, off_by)

    def _at_the_rate(self, mono: npt.NDArray[np.float32], rate: int) -> Iterator[npt.NDArray[np.float32]]:
        if rate != self._from_rate:  # it may change midway, as in broadcasts
            yield self._flushed()
            self._from_rate, is_other = rate, rate != self._window.rate
            self._resampler = soxr.ResampleStream(rate, self._window.rate, 1, dtype="float32") if is_other else None
        yield mono if self._resampler is None else self._resampler.resample_chunk(mono)

    def _flushed(self) -> npt.NDArray[np.float32]:
        """What the resampler holds back."""
        nothing = np.empty(0, np.float32)
        return nothing if self._resampler is None else self._resampler.resample_chunk(nothing, last=True)

    def _in_the_segment(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        assert self._started is not None
        before, self._resampled = self._resampled, self._resampled + len(samples)
        within = self.segment.cut(range(before, self._resampled), self._window.rate, self._started)
        self.has_enough = self.segment.is_over(self._started + Fraction(self._resampled, self._window.rate))
        return samples[within.start - before : within.stop - before]

    def _cut(self, samples: npt.NDArray[np.float32]) -> Iterator[Excerpt]:
        samples = self._in_the_segment(samples)
        self.taken += len(samples)
        self._held = np.concatenate([self._held, samples])
        while True:
            start, held_from = self._window.start(self._row), self.taken - len(self._held)
            self._held = self._held[max(0, start - held_from) :]
            if start + self._window.size > self.taken:
                return
            yield self._excerpt(self._held[: self._window.size])

    def _excerpt(self, samples: npt.NDArray[np.float32]) -> Excerpt:
        """The next row's."""
        assert self._started is not None
        window, row, self._row = self._window, self._row, self._row + 1
        began = self.segment.begin(self._started)
        start = began + row * window.step_seconds
        end = min(start + window.seconds, began + Fraction(self.taken, window.rate))
        return Excerpt(start, end, samples, window.padding(row, self.taken))


def wants_of(samplers: Sequence[Sampler]) -> Wants | None:
    """Which frames any of them may take; None where that is as good as all, or none of them takes frames."""
    of_frames = [sampler for sampler in samplers if isinstance(sampler, FrameSampler)]
    if not of_frames or not all(sampler.is_sparse for sampler in of_frames):
        return None
    return lambda seconds, end_seconds: any(sampler.wants(seconds, end_seconds) for sampler in of_frames)


def _check_start(kind: str, segment: Segment, end: Fraction | None, off_by: int) -> None:
    if segment.start and end is not None and segment.start >= end + off_by:
        raise MediaError(f"the segment starts at {in_seconds(segment.start)}, and its {kind} ends at {in_seconds(end)}")


def _end_seconds(track: FrameTrack, count: int | None = None) -> Fraction:
    """When a track ends; count: of its frames, where it is known already, as to count them may take long."""
    if track.end_seconds is not None:
        return track.end_seconds
    return track.start_seconds + (track.frame_count() if count is None else count) / track.fps
