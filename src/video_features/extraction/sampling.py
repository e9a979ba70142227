"""Defines samplers, which select the samples of a source that a feature needs, and the sampler of sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import soxr

from ..errors import MediaError
from ..media import Frame, Sound, SoundTrack, Track
from ..timeline.rates import round_half_away
from ..timeline.segments import Segment, in_seconds
from ..timeline.windows import SoundWindow


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

    taken: int
    padding_hint: ClassVar[str]
    has_enough: bool
    segment: Segment
    pads: bool
    can_pad_windows: bool

    @property
    def track(self) -> Track: ...

    @property
    def fps(self) -> Fraction: ...

    @property
    def rate_hint(self) -> str: ...

    def take(self, sample: Any) -> Iterator[Frame | Excerpt]:
        """Add the next sample of the track and yield the items that it completes."""

    def finish(self) -> Iterator[Frame | Excerpt]:
        """End the track and yield the remaining items."""

    def expected(self) -> int:
        """Return how many frames, or samples of sound, will be selected according to the track's header."""

    @property
    def is_exact(self) -> bool:
        """True if `expected` is exact, unless the header is wrong."""

    def items(self, taken: int) -> int:
        """Return the number of frames, or of windows of sound, in `taken` frames or samples."""

    def required(self, items: int, *, padded: bool) -> int:
        """Return how many frames, or samples, are needed for `items` frames or windows. padded: with a padded tail"""

    def warnings(self) -> Iterator[str]:
        """Yield what to tell about the samples so far."""

    def describe(self, taken: int) -> str:
        """Return `taken` frames or samples as a phrase for messages, such as `12 frames at 5 fps`."""

    def check_start(self, end: Fraction | None, *, tolerance_seconds: int = 0) -> None:
        """Raise MediaError if the segment starts at or after the end of the track.

        end: end of the track in seconds; None if unknown
        tolerance_seconds: the track may end this much later than `end`
        """


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

    @property
    def is_exact(self) -> bool:
        return self.track.is_length_stated

    def items(self, taken: int) -> int:
        return self._window.rows(taken)

    def required(self, items: int, *, padded: bool) -> int:
        return (replace(self._window, tail="pad") if padded else self._window).least(items)

    def warnings(self) -> Iterator[str]:
        return iter(())

    def describe(self, taken: int) -> str:
        return f"{round(taken / self._window.rate, 4):g} s of sound"

    def check_start(self, end: Fraction | None, *, tolerance_seconds: int = 0) -> None:
        check_start_of("sound", self.segment, end, tolerance_seconds)

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


def check_start_of(kind: str, segment: Segment, end: Fraction | None, tolerance_seconds: int) -> None:
    """Raise MediaError if a segment starts at or after the end of a track. See `Sampler.check_start`."""
    if segment.start and end is not None and segment.start >= end + tolerance_seconds:
        raise MediaError(f"the segment starts at {in_seconds(segment.start)}, but the {kind} ends at {in_seconds(end)}")
