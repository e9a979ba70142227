"""What a feature takes of a source: frames (every one, a rate's, or a number of them), or windows of sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import soxr

from .errors import counted
from .media import Frame, FrameTrack, Sound, SoundTrack, Track
from .settings import FrameSettings, PictureSettings
from .windows import ConstantRate, SoundWindow, as_fraction, rate_for_total, round_half_away


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
    """Takes what one feature needs from one track.

    track: whose samples it takes
    fps: frames per second taken, the source's average where every frame is; of sound, rows per second
    taken: how many frames, or samples of sound, so far
    padded_with: what `tail=pad` fills a row up with, in words
    takes_more: which setting would make it take more, in words; empty where none does
    """

    fps: Fraction
    taken: int
    padded_with: ClassVar[str]
    takes_more: str

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


class FrameSampler:
    """Takes one feature's frames. See `Sampler`."""

    padded_with: ClassVar[str] = "repeats the last one to fill a row"

    def __init__(self, settings: PictureSettings, track: FrameTrack) -> None:
        self.track = track
        self._total = settings.extraction_total if isinstance(settings, FrameSettings) else None
        self._rate: ConstantRate | None = None
        if settings.extraction_fps is not None:
            self._rate = ConstantRate(as_fraction(settings.extraction_fps))
        elif self._total is not None:
            self._rate = ConstantRate(rate_for_total(self._total, track.fps, track.frame_count()))
        self.fps = track.fps if self._rate is None else self._rate.fps
        self.taken = 0
        setting = "extraction_total" if settings.extraction_fps is None else "extraction_fps"
        self.takes_more = "" if self.fps == track.fps else f"a higher {setting} takes more"

    def take(self, sample: Frame) -> Iterator[Frame]:
        """The frame, once for every time that it is taken, shown when that is."""
        for shown in self._shown(sample):
            if self.taken == self._total:
                return
            self.taken += 1
            yield shown

    def finish(self) -> Iterator[Frame]:
        return iter(())

    def expected(self) -> int:
        track = self.track
        if self._rate is None:
            return track.frame_count()
        start, end = track.start_seconds, track.end_seconds
        count = self._rate.count(start, start + track.frame_count() / track.fps if end is None else end)
        return count if self._total is None else min(count, self._total)

    def items(self, taken: int) -> int:
        return taken

    def least(self, items: int, *, padded: bool) -> int:
        return items

    def in_words(self, taken: int) -> str:
        return counted(taken, "frame") + ("" if self.fps == self.track.fps else f" at {float(self.fps):g} fps")

    def _shown(self, frame: Frame) -> Iterator[Frame]:
        if self._rate is None:
            yield frame
            return
        for tick in self._rate.ticks(frame.seconds, frame.end_seconds):
            yield frame.shown(tick / self._rate.fps, (tick + 1) / self._rate.fps)


class SoundSampler:
    """Resamples a sound and cuts it into windows; holds no more than one and a piece. See `Sampler`."""

    padded_with: ClassVar[str] = "fills a row up with silence"
    takes_more = ""

    def __init__(self, window: SoundWindow, track: SoundTrack) -> None:
        self.track = track
        self.fps = 1 / window.step_seconds
        self.taken = 0
        self._window = window
        self._started: Fraction | None = None  # when the sound did
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
        return round_half_away(self.track.duration() * self._window.rate)  # as soxr does

    def items(self, taken: int) -> int:
        return self._window.rows(taken)

    def least(self, items: int, *, padded: bool) -> int:
        return (replace(self._window, tail="pad") if padded else self._window).least(items)

    def in_words(self, taken: int) -> str:
        return f"{round(taken / self._window.rate, 4):g} s of sound"

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

    def _cut(self, samples: npt.NDArray[np.float32]) -> Iterator[Excerpt]:
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
        start = self._started + row * window.step_seconds
        end = min(start + window.seconds, self._started + Fraction(self.taken, window.rate))
        return Excerpt(start, end, samples, window.padding(row, self.taken))
