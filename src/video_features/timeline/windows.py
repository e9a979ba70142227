"""Which frames or samples make a row: windows, their steps and their tail."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from .rates import round_half_away

S = TypeVar("S")
T = TypeVar("T")

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
