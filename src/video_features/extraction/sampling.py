"""Selects the samples of a source that a feature needs: frames (all, at a rate, or a number), or windows of sound."""

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

SPARSE_RATIO = 2  # source frames per selected frame, from which on the other frames are not decoded


@dataclass(frozen=True)
class Excerpt:
    """A window of sound.

    seconds, end_seconds: start and end in seconds; the container starts at 0
    samples: float32 (n,), the mean of the channels, in −1 … 1
    padding: number of spectrogram frames that extend past the end of the sound; silence fills these frames
    """

    seconds: Fraction
    end_seconds: Fraction
    samples: npt.NDArray[np.float32]
    padding: int


class Sampler(Protocol):
    """Selects the samples of one track that one feature needs, within a segment or over the whole track.

    track: the track to sample. For a segment, decoding must start no later than at the sample that is shown, or heard,
        when the segment starts
    fps: frames per second selected: the requested rate, or the source's average if every frame is selected. For sound,
        rows per second
    taken: number of frames, or samples of sound, selected so far
    padding_hint: what `tail=pad` does, as a phrase for messages
    rate_hint: the setting that would select more, as a phrase for messages; empty if there is none
    has_enough: True once the segment has ended and no more samples are needed
    segment: the part of the track to sample
    pads: True if the sampler pads the last window itself
    can_pad_windows: True if windows of the selected items can be padded (`tail=pad`)
    """

    fps: Fraction
    taken: int
    padding_hint: ClassVar[str]
    rate_hint: str
    has_enough: bool
    segment: Segment
    pads: bool
    can_pad_windows: bool

    @property
    def track(self) -> Track: ...

    def take(self, sample: Any) -> Iterator[Frame | Excerpt]:
        """Add the next sample of the track and yield the items that it completes."""

    def finish(self) -> Iterator[Frame | Excerpt]:
        """End the track and yield the remaining items."""

    def expected(self) -> int:
        """Return how many frames, or samples of sound, will be selected according to the track's header."""

    def items(self, taken: int) -> int:
        """Return the number of frames, or of windows of sound, in `taken` frames or samples."""

    def required(self, items: int, *, padded: bool) -> int:
        """Return how many frames, or samples, are needed for `items` frames or windows. padded: with a padded tail"""

    def describe(self, taken: int) -> str:
        """Return `taken` frames or samples as a phrase for messages, such as `12 frames at 5 fps`."""

    def check_start(self, end: Fraction | None, *, tolerance_seconds: int = 0) -> None:
        """Raise MediaError if the segment starts at or after the end of the track.

        end: end of the track in seconds; None if unknown
        tolerance_seconds: the track may end this much later than `end`
        """


class FrameSampler:
    """Selects frames: all, at a constant rate, or a given number. See `Sampler`."""

    padding_hint: ClassVar[str] = "repeats the last frame to fill the row"
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
            # By the header the segment may hold no frames (share 0). The header may be wrong, so decode and see.
            count = track.frame_count()
            share = self.segment.share(track.start_seconds, _end_seconds(track, count)) or 1
            self._rate = ConstantRate(rate_for_total(self._total, track.fps, count * share), self.segment.start)
        self.fps = track.fps if self._rate is None else self._rate.fps
        self.taken = 0
        self.has_enough = False
        setting = "extraction_total" if settings.extraction_fps is None else "extraction_fps"
        self.rate_hint = "" if self.fps == track.fps else f"a higher {setting} takes more frames"

    @property
    def is_sparse(self) -> bool:
        """True if the sampler selects so few frames that it may be faster not to decode the others."""
        return self._rate is not None and self._rate.fps * SPARSE_RATIO <= self.track.fps

    def wants(self, seconds: Fraction, end_seconds: Fraction) -> bool:
        """Return True if a frame shown from `seconds` to `end_seconds` may be selected.

        The span may also cover several consecutive frames. False then means that none of these frames is selected, so
        that the decoder can skip all of them.
        """
        rate = self._rate
        if rate is None:
            return True
        ticks = rate.all_ticks(seconds, end_seconds)
        return len(self.segment.cut(ticks, rate.fps, rate.origin)) > 0

    def take(self, sample: Frame) -> Iterator[Frame]:
        """Yield the frame once for each tick that selects the frame, at the time of the tick; without a rate, once."""
        selected, next_seconds = self._select(sample)
        self.has_enough = self.segment.is_over(next_seconds)
        for frame in selected:
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

    def required(self, items: int, *, padded: bool) -> int:
        return items

    def describe(self, taken: int) -> str:
        return counted(taken, "frame") + ("" if self.fps == self.track.fps else f" at {float(self.fps):g} fps")

    def check_start(self, end: Fraction | None, *, tolerance_seconds: int = 0) -> None:
        _check_start("video", self.segment, end, tolerance_seconds)

    def _select(self, frame: Frame) -> tuple[list[Frame], Fraction]:
        """Return the frame for each tick that selects the frame, and the earliest start of the next selected frame."""
        rate = self._rate
        if rate is None:
            return [frame] if self.segment.holds(frame.seconds) else [], frame.end_seconds
        ticks = rate.ticks(frame.seconds, frame.end_seconds)
        selected = self.segment.cut(ticks, rate.fps, rate.origin)
        return [frame.shown(rate.seconds(tick), rate.seconds(tick + 1)) for tick in selected], rate.seconds(ticks.stop)


class SoundSampler:
    """Resamples sound and cuts the samples into windows. Holds at most one window and one block. See `Sampler`.

    A segment is cut after resampling, so the segment has the same samples as the whole sound. The first row starts with
    the segment, or with the sound if the sound starts later.
    """

    padding_hint: ClassVar[str] = "fills the row with silence"
    rate_hint = ""
    can_pad_windows = False

    def __init__(self, window: SoundWindow, track: SoundTrack, segment: Segment | None = None) -> None:
        self.track = track
        self.segment = segment or Segment()
        self.pads = window.tail == "pad"
        self.fps = 1 / window.step_seconds
        self.taken = 0
        self.has_enough = False
        self._window = window
        self._start_seconds: Fraction | None = None  # start of the sound
        self._resampled = 0  # samples since the start of the sound
        self._row = 0
        self._buffer = np.empty(0, np.float32)  # samples from the start of the next row on
        self._source_rate: int | None = None  # Hz
        self._resampler: Any = None  # soxr.ResampleStream; None if the source already has the rate of the window

    def take(self, sample: Sound) -> Iterator[Excerpt]:
        """Add a block of sound and yield the windows that the block completes."""
        if self._start_seconds is None:
            self._start_seconds = sample.seconds
        mono = sample.samples.mean(axis=1, dtype=np.float32) / np.float32(1 << 15)
        for samples in self._resample(mono, sample.rate):
            yield from self._cut_windows(samples)

    def finish(self) -> Iterator[Excerpt]:
        """Yield the windows of the samples left in the resampler, then the padded tail if `tail=pad`."""
        yield from self._cut_windows(self._flush_resampler())
        if self._row < self._window.rows(self.taken):
            silence = np.zeros(self._window.size - len(self._buffer), np.float32)
            yield self._next_excerpt(np.concatenate([self._buffer, silence]))

    def expected(self) -> int:
        samples = round_half_away(self.track.duration() * self._window.rate)  # soxr gives this many
        return len(self.segment.cut(range(samples), self._window.rate, self.track.start_seconds))

    def items(self, taken: int) -> int:
        return self._window.rows(taken)

    def required(self, items: int, *, padded: bool) -> int:
        return (replace(self._window, tail="pad") if padded else self._window).least(items)

    def describe(self, taken: int) -> str:
        return f"{round(taken / self._window.rate, 4):g} s of sound"

    def check_start(self, end: Fraction | None, *, tolerance_seconds: int = 0) -> None:
        _check_start("sound", self.segment, end, tolerance_seconds)

    def _resample(self, mono: npt.NDArray[np.float32], rate: int) -> Iterator[npt.NDArray[np.float32]]:
        if rate != self._source_rate:  # the rate may change within a track, as in broadcasts
            yield self._flush_resampler()
            self._source_rate, needs_resampling = rate, rate != self._window.rate
            self._resampler = None
            if needs_resampling:
                self._resampler = soxr.ResampleStream(rate, self._window.rate, 1, dtype="float32")
        yield mono if self._resampler is None else self._resampler.resample_chunk(mono)

    def _flush_resampler(self) -> npt.NDArray[np.float32]:
        """Return the samples that the resampler still holds."""
        empty = np.empty(0, np.float32)
        return empty if self._resampler is None else self._resampler.resample_chunk(empty, last=True)

    def _cut_to_segment(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        assert self._start_seconds is not None
        before, self._resampled = self._resampled, self._resampled + len(samples)
        within = self.segment.cut(range(before, self._resampled), self._window.rate, self._start_seconds)
        self.has_enough = self.segment.is_over(self._start_seconds + Fraction(self._resampled, self._window.rate))
        return samples[within.start - before : within.stop - before]

    def _cut_windows(self, samples: npt.NDArray[np.float32]) -> Iterator[Excerpt]:
        samples = self._cut_to_segment(samples)
        self.taken += len(samples)
        self._buffer = np.concatenate([self._buffer, samples])
        while True:
            start, buffer_start = self._window.start(self._row), self.taken - len(self._buffer)
            self._buffer = self._buffer[max(0, start - buffer_start) :]
            if start + self._window.size > self.taken:
                return
            yield self._next_excerpt(self._buffer[: self._window.size])

    def _next_excerpt(self, samples: npt.NDArray[np.float32]) -> Excerpt:
        """Return the excerpt of the next row. The last row ends with the sound."""
        assert self._start_seconds is not None
        window, row, self._row = self._window, self._row, self._row + 1
        first_start = self.segment.begin(self._start_seconds)
        start = first_start + row * window.step_seconds
        end = min(start + window.seconds, first_start + Fraction(self.taken, window.rate))
        return Excerpt(start, end, samples, window.padding(row, self.taken))


def wants_of(samplers: Sequence[Sampler]) -> Wants | None:
    """Return a function that tells the decoder which frames any of the samplers may select.

    None means that every frame is to be decoded: one of the samplers is not sparse, or none of them selects frames.
    """
    frame_samplers = [sampler for sampler in samplers if isinstance(sampler, FrameSampler)]
    if not frame_samplers or not all(sampler.is_sparse for sampler in frame_samplers):
        return None
    return lambda seconds, end_seconds: any(sampler.wants(seconds, end_seconds) for sampler in frame_samplers)


def _check_start(kind: str, segment: Segment, end: Fraction | None, tolerance_seconds: int) -> None:
    if segment.start and end is not None and segment.start >= end + tolerance_seconds:
        raise MediaError(f"the segment starts at {in_seconds(segment.start)}, but the {kind} ends at {in_seconds(end)}")


def _end_seconds(track: FrameTrack, count: int | None = None) -> Fraction:
    """Return the end of a track in seconds. count: the number of frames, if known, as counting may take long"""
    if track.end_seconds is not None:
        return track.end_seconds
    return track.start_seconds + (track.frame_count() if count is None else count) / track.fps
