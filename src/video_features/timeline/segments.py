"""Defines segments: parts of a video or a sound, given in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from ..errors import SettingsError, abbreviated
from .rates import as_fraction

MAX_SECONDS = 100_000_000  # three years, longer than any recording


@dataclass(frozen=True)
class Segment:
    """A part of a video or a sound: the half-open interval from `start` to `end`.

    start: seconds; the container's start is 0. A start of 0 also includes content that begins slightly before 0 s
    end: seconds, exclusive; None means to the end of the source
    Raises SettingsError unless 0 ≤ start < end.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise SettingsError(f"a segment must start at 0 s or later and end after that, found {self.in_words()}")

    def begin(self, start: Fraction) -> Fraction:
        """Return where content that starts at `start` (seconds) starts within the segment, in seconds."""
        return max(self.start, start) if self.start else start

    def is_over(self, seconds: Fraction) -> bool:
        """Return True if the segment ends at or before this time."""
        return self.end is not None and seconds >= self.end

    def holds(self, seconds: Fraction) -> bool:
        """Return True if this time lies in the segment."""
        return self.begin(seconds) == seconds and not self.is_over(seconds)

    def cut(self, ticks: range, rate: Fraction | int, origin: Fraction = Fraction(0)) -> range:
        """Return the ticks that lie in the segment; tick k is at origin + k / rate seconds."""
        first = max(ticks.start, math.ceil((self.start - origin) * rate)) if self.start else ticks.start
        stop = ticks.stop if self.end is None else min(ticks.stop, math.ceil((self.end - origin) * rate))
        return range(first, max(first, stop))

    def overlap(self, start: Fraction, end: Fraction) -> tuple[Fraction, Fraction]:
        """Return the part of the interval from `start` to `end` (seconds) in the segment: its start and its end."""
        first = self.begin(start)
        return first, max(first, end if self.end is None else min(self.end, end))

    def share(self, start: Fraction, end: Fraction) -> Fraction:
        """Return the fraction, 0 … 1, of a track from `start` to `end` (seconds) that lies in the segment."""
        first, until = self.overlap(start, end)
        return (until - first) / (end - start) if end > start else Fraction(1)

    def in_words(self) -> str:
        """Return the segment as text: `from 12 s to 14.5 s`, or `from 12 s on`."""
        return f"from {in_seconds(self.start)} {'on' if self.end is None else f'to {in_seconds(self.end)}'}"


def segment_of(start_seconds: float | None, end_seconds: float | None) -> Segment | None:
    """Return the segment between two times, or None if both are None.

    Raises SettingsError if the times are not finite numbers or do not form a segment.
    """
    if start_seconds is None and end_seconds is None:
        return None
    start = _checked_seconds("start_seconds", 0 if start_seconds is None else start_seconds)
    return Segment(start, None if end_seconds is None else _checked_seconds("end_seconds", end_seconds))


def _checked_seconds(name: str, seconds: float) -> Fraction:
    try:
        number = math.nan if isinstance(seconds, str) else float(seconds)
    except (ValueError, TypeError, OverflowError):  # OverflowError: a whole number of hundreds of digits
        number = math.nan
    if not abs(number) <= MAX_SECONDS:  # true for NaN, too
        raise SettingsError(f"{name} must be a number of seconds up to {MAX_SECONDS}, got {abbreviated(seconds)}")
    return as_fraction(number)


def in_seconds(seconds: Fraction) -> str:
    """Return a time as text, rounded to the millisecond: `14.5 s`."""
    return f"{round(float(seconds), 3):.10g} s"
