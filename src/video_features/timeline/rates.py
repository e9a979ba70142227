"""Selects the frames of a video at a constant rate.

Times are exact fractions of a second, because one rounding error moves a frame that lies halfway between two ticks.
"""

from __future__ import annotations

import math
from fractions import Fraction


def as_fraction(number: float) -> Fraction:
    """Return the fraction that FFmpeg reads for a number: 2997/100 for 29.97, 30000/1001 (NTSC) for 29.97002997."""
    return Fraction(number).limit_denominator(1001000)


def rate_for_total(total: int, fps: Fraction, frame_count: Fraction | int) -> Fraction:
    """Return the rate that selects `total` frames from `frame_count` source frames at `fps`.

    frame_count: may be fractional, as a segment can cover part of a frame
    """
    return as_fraction(float(total * fps / frame_count))


def round_half_away(value: Fraction) -> int:
    """Return the nearest integer, rounding halves away from zero (FFmpeg's AV_ROUND_NEAR_INF)."""
    nearest = math.floor(abs(value) + Fraction(1, 2))
    return nearest if value >= 0 else -nearest


class ConstantRate:
    """Selects frames exactly as FFmpeg's `fps` filter does with its default rounding, `near`.

    Output tick k is shown at origin + k / fps. Each frame's start is rounded to a tick. A frame fills the ticks from
    its own tick up to the next frame's tick. Frames are thus dropped below the source's rate and repeated above it:

        frames    A     B     C                D     E
        time      0-----1-----2-----3-----4----5-----6
        ticks     0           1           2          3      (half the rate)
        selected  A           C           C          E

    The frame that a tick selects does not depend on where decoding started, as long as decoding started no later than
    that frame.
    """

    def __init__(self, fps: Fraction, origin: Fraction = Fraction(0)) -> None:
        self.fps = fps
        self.origin = origin
        self._next: int | None = None

    def ticks(self, start: Fraction, end: Fraction) -> range:
        """Return the ticks that select the frame shown from `start` to `end`.

        start, end: seconds; `end` is the start of the next frame, or earlier if a gap follows
        Calls must follow the order in which frames are shown.
        """
        first = self._nearest(start)
        if self._next is not None:
            first = max(first, self._next)
        stop = max(first, self._nearest(end))
        self._next = stop
        return range(first, stop)

    def all_ticks(self, start: Fraction, end: Fraction) -> range:
        """Return the ticks that a whole stream from `start` to `end` (seconds) fills."""
        return ConstantRate(self.fps, self.origin).ticks(start, end)

    def seconds(self, tick: int) -> Fraction:
        """Return the time of a tick in seconds."""
        return self.origin + tick / self.fps

    def _nearest(self, seconds: Fraction) -> int:
        return round_half_away((seconds - self.origin) * self.fps)
