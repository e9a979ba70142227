"""Groups frames or samples into windows. Each window becomes one row of features."""

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
    """A sliding window over items, such as frames. Each window becomes one row.

    size: the number of consecutive items in a window
    step: the number of items from the start of one window to the start of the next
    tail: how to treat the items after the last full window: `drop` them, or `pad` them to a full window by repeating
        the last item

        items            0 1 2 3 4 5 6 7 8 9        size 4, step 3
        windows          0 1 2 3
                               3 4 5 6
                                     6 7 8 9
        items            0 1 2 3 4 5 6 7 8          pad adds a last window 6 7 8 8

    Raises ValueError if the size or the step is below 1, or the tail is unknown.
    """

    size: int = 1
    step: int = 1
    tail: str = "drop"

    def __post_init__(self) -> None:
        if self.size < 1 or self.step < 1 or self.tail not in TAILS:
            raise ValueError(f"expected size and step of at least 1 and a tail of {' or '.join(TAILS)}, found {self}")

    def holds(self, item: int) -> bool:
        """Return True if the item at this index lies in a window, not in a gap between windows."""
        return item % self.step < self.size

    def completes(self, item: int) -> bool:
        """Return True if the item at this index is the last item of a window."""
        start = item + 1 - self.size
        return start >= 0 and start % self.step == 0

    def rows(self, items: int) -> int:
        """Return the number of rows that `items` items make."""
        full = max(0, (items - self.size) // self.step + 1)
        # The items that lie in a full window, or in the gap after one. Any item after them starts a padded window.
        covered = max((full - 1) * self.step + self.size, full * self.step) if full else 0
        return full + (self.tail == "pad" and items > covered)


@dataclass(frozen=True)
class SoundWindow:
    """A sliding window over sound. Each row covers a fixed number of spectrogram frames.

    rate: samples per second, Hz
    frame: the window of one spectrogram frame: its size and its step, in samples
    frames: the number of spectrogram frames in a row
    step_seconds: seconds from the start of one row to the start of the next; each start is rounded to a sample
    tail: how to treat the frames after the last full row: `drop` them, or `pad` them to a full row with silence
    """

    rate: int
    frame: Window
    frames: int
    step_seconds: Fraction
    tail: str = "drop"

    @property
    def size(self) -> int:
        """The number of samples in a row. The last spectrogram frame of a row reaches beyond the row's `seconds`."""
        return self.samples(self.frames)

    @property
    def seconds(self) -> Fraction:
        """The nominal duration of a row, in seconds."""
        return Fraction(self.frames * self.frame.step, self.rate)

    def least(self, rows: int) -> int:
        """Return the smallest number of samples that makes this many rows."""
        return bisect_left(range(self.start(rows) + self.size), rows, key=self.rows)

    def samples(self, frames: int) -> int:
        """Return the number of samples that this many spectrogram frames cover."""
        return (frames - 1) * self.frame.step + self.frame.size

    def start(self, row: int) -> int:
        """Return the index of the first sample of a row."""
        return round_half_away(row * self.step_seconds * self.rate)

    def rows(self, samples: int) -> int:
        """Return the number of rows that `samples` samples make."""
        last_start = samples - self.size  # a full row starts here at the latest, after rounding
        full = math.ceil((last_start + Fraction(1, 2)) / (self.step_seconds * self.rate)) if last_start >= 0 else 0
        return full + (self.tail == "pad" and self._has_new_frames(full, samples))

    def padding(self, row: int, samples: int) -> int:
        """Return how many spectrogram frames of a row are not completely within the sound."""
        return self.frames - min(self.frames, self.frame.rows(samples - self.start(row)))

    def _has_new_frames(self, row: int, samples: int) -> bool:
        """Return True if this row has a complete frame, and its complete frames reach beyond the row before it."""
        frames = self.frame.rows(samples - self.start(row))
        covered = self.start(row - 1) + self.size if row else 0
        return frames > 0 and self.start(row) + self.samples(frames) > covered


class Windower(Generic[S, T]):
    """Cuts a stream of items into windows. It holds at most one window of items.

    prepare: called once for every item that lies in a window; items in gaps between windows are discarded unprepared
    """

    def __init__(self, window: Window, prepare: Callable[[S], T]) -> None:
        self._window = window
        self._prepare = prepare
        self._items: deque[T] = deque()
        self._skip = 0
        self._has_unused_item = False  # True if the last item in `_items` has not been in a window

    def push(self, item: S) -> list[T] | None:
        """Add the next item. Returns the window that it completes, or None."""
        if self._skip:
            self._skip -= 1
            return None
        self._items.append(self._prepare(item))
        self._has_unused_item = len(self._items) < self._window.size
        if self._has_unused_item:
            return None
        window = list(self._items)
        for _ in range(min(self._window.step, len(self._items))):
            self._items.popleft()
        self._skip = max(0, self._window.step - self._window.size)
        return window

    def finish(self) -> list[T] | None:
        """Return the last items, fewer than a window, if they are to be padded to a row; otherwise None."""
        if self._window.tail == "pad" and self._has_unused_item:
            return list(self._items)
        return None
