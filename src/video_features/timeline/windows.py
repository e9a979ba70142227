"""Which frames or samples, and which of them together: rates, totals, segments and windows.

Pure arithmetic on times: no torch, no I/O. Times are exact fractions of a second, because a frame that lies
halfway between two ticks goes the wrong way after one rounding too many.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from ..errors import SettingsError

S = TypeVar("S")
T = TypeVar("T")


def as_fraction(number: float) -> Fraction:
    """The fraction that is meant, and that FFmpeg reads, by this number: 29.97 is 2997/100, 30000/1001 is NTSC's."""
    return Fraction(number).limit_denominator(1001000)


def rate_for_total(total: int, fps: Fraction, frame_count: Fraction | int) -> Fraction:
    """The rate at which a video of `frame_count` frames at `fps`, or so much of one, gives `total` frames."""
    return as_fraction(float(total * fps / frame_count))


def round_half_away(value: Fraction) -> int:
    """The nearest integer; of two equally near, the one farther from zero (FFmpeg's AV_ROUND_NEAR_INF)."""
    nearest = math.floor(abs(value) + Fraction(1, 2))
    return nearest if value >= 0 else -nearest


class ConstantRate:
    """Selects frames exactly as FFmpeg's `fps` filter does with its default rounding, `near`.

    Output tick k is shown at origin + k / fps. Every frame's start is rounded to a tick; a frame fills the ticks from
    its own to the next frame's, so frames are dropped below the source's rate and repeated above it:

        frames    A     B     C                D     E
        time      0-----1-----2-----3-----4----5-----6
        ticks     0           1           2          3      (half the rate)
        selected  A           C           C          E

    So which frame a tick selects does not depend on where the reading began, if only that was not later.
    """

    def __init__(self, fps: Fraction, origin: Fraction = Fraction(0)) -> None:
        self.fps = fps
        self.origin = origin
        self._next: int | None = None

    def ticks(self, start: Fraction, end: Fraction) -> range:
        """The ticks at which the frame shown from `start` to `end` (seconds; the next frame's start) is selected."""
        first = self._nearest(start) if self._next is None else self._next
        stop = max(first, self._nearest(end))
        self._next = stop
        return range(first, stop)

    def all_ticks(self, start: Fraction, end: Fraction) -> range:
        """The ticks that a stream from `start` to `end` (seconds) fills."""
        return ConstantRate(self.fps, self.origin).ticks(start, end)

    def seconds(self, tick: int) -> Fraction:
        """When a tick is shown."""
        return self.origin + tick / self.fps

    def _nearest(self, seconds: Fraction) -> int:
        return round_half_away((seconds - self.origin) * self.fps)


@dataclass(frozen=True)
class Segment:
    """A part of a video or a sound: what is shown, or heard, from `start` on and before `end`.

    start: seconds; the container's start is 0. From 0 on is from the beginning, even if that lies a little before
    end: seconds; None: to the end, whenever that is
    Raises SettingsError unless 0 ≤ start < end.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise SettingsError(f"a segment must start at 0 s or later and end after that, and is {self.in_words()}")

    def begin(self, start: Fraction) -> Fraction:
        """When what starts at `start` (seconds) does so in the segment."""
        return max(self.start, start) if self.start else start

    def is_over(self, seconds: Fraction) -> bool:
        """Whether it ends before, or at, this time."""
        return self.end is not None and seconds >= self.end

    def holds(self, seconds: Fraction) -> bool:
        """Whether this time lies in it."""
        return self.begin(seconds) == seconds and not self.is_over(seconds)

    def cut(self, ticks: range, rate: Fraction | int, origin: Fraction = Fraction(0)) -> range:
        """Those of the ticks that lie in it; tick k is at origin + k / rate."""
        first = max(ticks.start, math.ceil((self.start - origin) * rate)) if self.start else ticks.start
        stop = ticks.stop if self.end is None else min(ticks.stop, math.ceil((self.end - origin) * rate))
        return range(first, max(first, stop))

    def share(self, start: Fraction, end: Fraction) -> Fraction:
        """How much of a track from `start` to `end` (seconds) lies in it, 0 … 1."""
        until = end if self.end is None else min(self.end, end)
        return max(Fraction(0), until - self.begin(start)) / (end - start) if end > start else Fraction(1)

    def in_words(self) -> str:
        """`from 12 s to 14.5 s`"""
        return f"from {in_seconds(self.start)} {'on' if self.end is None else f'to {in_seconds(self.end)}'}"


def segment_of(start_seconds: float | None, end_seconds: float | None) -> Segment | None:
    """The segment between these, where there is any. Raises SettingsError where there can be none."""
    if start_seconds is None and end_seconds is None:
        return None
    try:
        return Segment(as_fraction(start_seconds or 0), None if end_seconds is None else as_fraction(end_seconds))
    except (ValueError, OverflowError) as error:  # of what is no number, or none that ends
        raise SettingsError(str(error)) from None


def in_seconds(seconds: Fraction) -> str:
    """`14.5 s`; to the millisecond."""
    return f"{round(float(seconds), 3):.10g} s"


TAILS = ("drop", "pad")


@dataclass(frozen=True)
class Window:
    """How many consecutive items make a row, and how far the next row's window starts from this one's.

    tail: what becomes of the items after the last whole window: `drop` them, or `pad` them to a window by repeating
        the last one

        items            0 1 2 3 4 5 6 7 8 9        size 4, step 3
        windows          0 1 2 3
                               3 4 5 6
                                     6 7 8 9
        items            0 1 2 3 4 5 6 7 8          pad: a last row of 6 7 8 8
    """

    size: int = 1
    step: int = 1
    tail: str = "drop"

    def __post_init__(self) -> None:
        if self.size < 1 or self.step < 1 or self.tail not in TAILS:
            raise ValueError(f"expected a size and a step above 0 and a tail of {' or '.join(TAILS)}, found {self}")

    def holds(self, item: int) -> bool:
        """Whether an item, by its place, is in a window, and not in a gap between windows."""
        return item % self.step < self.size

    def completes(self, item: int) -> bool:
        """Whether an item, by its place, is the last of a window."""
        past = item + 1 - self.size
        return past >= 0 and past % self.step == 0

    def rows(self, items: int) -> int:
        """The number of rows that `items` items make."""
        whole = max(0, (items - self.size) // self.step + 1)
        seen = max((whole - 1) * self.step + self.size, whole * self.step) if whole else 0  # by a window or in a gap
        return whole + (self.tail == "pad" and items > seen)


@dataclass(frozen=True)
class SoundWindow:
    """Which samples of a sound make a row: those of so many frames of its spectrogram.

    rate: samples per second, Hz
    frame: samples of a frame of the spectrogram, and from one's start to the next one's
    frames: how many make a row
    step_seconds: from one row's start to the next one's, which lies at the nearest sample
    tail: what becomes of the frames after the last whole window: `drop` them, or `pad` them to a window with silence
    """

    rate: int
    frame: Window
    frames: int
    step_seconds: Fraction
    tail: str = "drop"

    @property
    def size(self) -> int:
        """Samples in a row. Its last frame reaches beyond the `seconds` for which the row stands."""
        return self.samples(self.frames)

    @property
    def seconds(self) -> Fraction:
        """What a row stands for."""
        return Fraction(self.frames * self.frame.step, self.rate)

    def least(self, rows: int) -> int:
        """The smallest number of samples that makes so many rows."""
        return bisect_left(range(self.start(rows) + self.size), rows, key=self.rows)

    def samples(self, frames: int) -> int:
        """How many samples so many frames cover."""
        return (frames - 1) * self.frame.step + self.frame.size

    def start(self, row: int) -> int:
        """The first sample of a row."""
        return round_half_away(row * self.step_seconds * self.rate)

    def rows(self, samples: int) -> int:
        """The number of rows that `samples` samples make."""
        spare = samples - self.size  # the last start of a whole row is the one that rounds to this, or to less
        whole = math.ceil((spare + Fraction(1, 2)) / (self.step_seconds * self.rate)) if spare >= 0 else 0
        return whole + (self.tail == "pad" and self._has_new_frames(whole, samples))

    def padding(self, row: int, samples: int) -> int:
        """How many frames of a row are not wholly within the sound."""
        return self.frames - min(self.frames, self.frame.rows(samples - self.start(row)))

    def _has_new_frames(self, row: int, samples: int) -> bool:
        """Whether the row that would be next has a whole frame, and one that is in no row before it."""
        frames = self.frame.rows(samples - self.start(row))
        seen = self.start(row - 1) + self.size if row else 0
        return frames > 0 and self.start(row) + self.samples(frames) > seen


class Windower(Generic[S, T]):
    """Cuts a stream into windows, holding no more than one window of it.

    prepare: applied once to every item that some window holds; items in gaps between windows are let go as they come
    """

    def __init__(self, window: Window, prepare: Callable[[S], T]) -> None:
        self._window = window
        self._prepare = prepare
        self._held: deque[T] = deque()
        self._skip = 0
        self._unseen = False  # the last item held is in no window yet

    def push(self, item: S) -> list[T] | None:
        """Take the next item; the window that it completes, or None."""
        if self._skip:
            self._skip -= 1
            return None
        self._held.append(self._prepare(item))
        self._unseen = len(self._held) < self._window.size
        if self._unseen:
            return None
        complete = list(self._held)
        for _ in range(min(self._window.step, len(self._held))):
            self._held.popleft()
        self._skip = max(0, self._window.step - self._window.size)
        return complete

    def finish(self) -> list[T] | None:
        """The items of the tail where they are to be padded; fewer than a window. None: there is no such row."""
        if self._window.tail == "pad" and self._unseen:
            return list(self._held)
        return None
