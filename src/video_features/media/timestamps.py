"""When each decoded frame is shown: the container's timestamps, repaired where they cannot be right."""

from __future__ import annotations

from fractions import Fraction

# A frame this much before the one before it is not a small error of its timestamp: the clock has started anew, as it
# does where transport streams were joined.
RESTART_SECONDS = Fraction(1, 2)


class DisplayTimes:
    """Turns the ticks of decoded frames, in the order shown, into seconds that never go back.

    time_base: seconds a tick
    start_ticks: the tick that is 0 s
    """

    def __init__(self, time_base: Fraction, start_ticks: int) -> None:
        self._time_base = time_base
        self._start_ticks = start_ticks
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = 0
        self._faulty_dts = 0
        self._last = Fraction(0)
        self._restarted_by = Fraction(0)

    def seconds(self, pts: int | None, dts: int | None, *, expected: Fraction) -> Fraction:
        """The next frame's time, from its presentation and decoding timestamps.

        expected: the end of the frame before it; its time, if it has no timestamp or the clock started anew
        """
        ticks = self._best_effort(pts, dts)
        if ticks is None:
            self._last = expected
            return expected
        seconds = (ticks - self._start_ticks) * self._time_base + self._restarted_by
        if self._last - seconds > RESTART_SECONDS:
            self._restarted_by += expected - seconds
            seconds = expected
        self._last = max(self._last, seconds)
        return self._last

    def _best_effort(self, pts: int | None, dts: int | None) -> int | None:
        """As FFmpeg's `best_effort_timestamp`: the presentation timestamp, unless those went back more often.

        AVI stores decoding timestamps only; with B-frames they do not belong to the frames that carry them.
        """
        if dts is not None:
            self._faulty_dts += self._last_dts is not None and dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._faulty_pts += self._last_pts is not None and pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        if pts is not None and (dts is None or self._faulty_pts <= self._faulty_dts):
            return pts
        return dts
