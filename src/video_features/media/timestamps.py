"""When frames are shown and sound is heard: the container's timestamps, repaired where they cannot be right."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from fractions import Fraction

from ..errors import MediaError, counted, printable

log = logging.getLogger(__name__)

# A frame this much before the one before it is not a small error of its timestamp: the clock has started anew, as it
# does where transport streams were joined.
RESTART_SECONDS = Fraction(1, 2)
# A piece of sound that starts this much after, or before, the end of the one before it is out of place by more than
# rounding; as FFmpeg's aresample. A gap of more than an hour, or beyond the end, is an error of timestamps.
GAP_SECONDS = Fraction(1, 10)
LONGEST_GAP_SECONDS = 3600


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
        self.are_doubtful = False  # a frame had no presentation timestamp, or one that is not after the one before it

    def seconds(self, pts: int | None, dts: int | None, *, expected: Fraction) -> Fraction:
        """The next frame's time, from its presentation and decoding timestamps.

        expected: the end of the frame before it; its time, if it has no timestamp or the clock started anew
        """
        self.are_doubtful |= pts is None or (self._last_pts is not None and pts <= self._last_pts)
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


@dataclass
class _Faults:
    """Of one kind, in the timestamps of a sound: what they are, and what was done; how many, how long, where."""

    what: str
    done: str
    count: int = 0
    total: Fraction = Fraction(0)
    first_at: Fraction = Fraction(0)

    def note(self, at: Fraction, seconds: Fraction, *, is_new: bool = True) -> None:
        self.first_at = self.first_at if self.count else at
        self.count += is_new
        self.total += seconds


@dataclass
class SoundTimes:
    """Places the pieces of a sound, so that each is heard when its timestamp says, as near as that can be.

    location: of the file, for messages
    end: of the sound, as far as that is known
    in_step: whether pieces are heard when they say, so that one that starts where the one before it says that it ends
        is, too, and `shift` need not be asked
    """

    location: str
    end: Fraction | None
    in_step: bool = False
    _gaps: _Faults = field(default_factory=lambda: _Faults("gap", "taken for silence"))
    _overlaps: _Faults = field(default_factory=lambda: _Faults("overlap", "of which the later samples are left out"))
    _restarts: _Faults = field(default_factory=lambda: _Faults("step back", "where what follows is joined"))
    _restarted_by: Fraction = Fraction(0)
    _is_late: bool = False  # a whole piece came too late, and the next ones do until they have caught up

    def shift(self, seconds: Fraction, since: Fraction | None, reached: Fraction, length: Fraction) -> Fraction:
        """Seconds of silence before the piece that starts at `seconds`; below 0, how much of it comes too late.

        since: how much later that is than the start of the piece before it; None where none said when it starts
        reached: the end of the piece before it
        length: its own, in seconds
        Raises MediaError where its time cannot be.
        """
        ahead = seconds + self._restarted_by - reached
        self.in_step = False
        if since is not None and -RESTART_SECONDS <= since <= 0:
            return Fraction(0)  # a clock that stands still says nothing
        if self._restarted_by and ahead >= GAP_SECONDS and abs(seconds - reached) < GAP_SECONDS:
            self._restarted_by = Fraction(0)  # one timestamp was wrong, the clock is still the same
            return Fraction(0)
        if -ahead > RESTART_SECONDS:
            self._restarts.note(reached, -ahead)
            self._restarted_by -= ahead
            return Fraction(0)
        if ahead < 0 and (self._is_late or -ahead >= GAP_SECONDS):
            late = min(-ahead, length)
            self._overlaps.note(reached, late, is_new=not self._is_late)
            self._is_late = late == length
            return -late
        self._is_late = False
        if ahead < GAP_SECONDS:
            self.in_step = True
            return Fraction(0)
        is_beyond_the_end = self.end is not None and reached <= self.end < seconds - 1
        if is_beyond_the_end or ahead > LONGEST_GAP_SECONDS:
            raise MediaError(
                f"{self.location}: the timestamps of its sound jump from {float(reached):.2f} s to "
                f"{float(reached + ahead):.2f} s; is it damaged?"
            )
        self._gaps.note(reached, ahead)
        return ahead

    def tell(self) -> None:
        """Warn of what was repaired."""
        for faults in (self._gaps, self._overlaps, self._restarts):
            if faults.count:
                log.warning(
                    "%s: the times of its sound have %s, %.2f s in all, the first at %.2f s, %s",
                    *(
                        printable(self.location),
                        counted(faults.count, faults.what),
                        faults.total,
                        faults.first_at,
                        faults.done,
                    ),
                )
