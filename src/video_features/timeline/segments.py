"""Parts of a video or a sound, by seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from ..errors import SettingsError
from .rates import as_fraction


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
