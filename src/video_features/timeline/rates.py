"""Which frames a constant rate selects. Times are exact fractions of a second: one rounding too many moves a frame that
lies halfway between two ticks."""

from __future__ import annotations

import math
from fractions import Fraction


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
