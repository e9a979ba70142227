"""Converts the timestamps of frames and sound to seconds, repairs implausible timestamps, and finds gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, pairwise

from ..errors import MediaError, counted

# If a frame is this much earlier than the previous frame, the clock has restarted, as it does where transport streams
# were joined. A smaller step back is an error in the timestamp.
RESTART_SECONDS = Fraction(1, 2)
# If a chunk of sound starts this much after or before the end of the previous chunk, the difference is a gap or an
# overlap rather than rounding. FFmpeg's aresample uses the same limit. A gap of more than an hour, or a gap that leads
# beyond the end of the sound, is a timestamp error.
GAP_SECONDS = Fraction(1, 10)
LONGEST_GAP_SECONDS = 3600
# A frame that is shown for more seconds than this, and for more than this many times as long as the frame before it,
# precedes a gap in which frames are missing. So does a frame that is shown for more than a minute.
LONGEST_HOLD = 10
LONGEST_HOLD_SECONDS = Fraction(60)


class GapFinder:
    """Finds gaps between the frames of a video, in display order.

    fps: average frames per second
    """

    def __init__(self, fps: Fraction) -> None:
        self._usual = 1 / fps  # how long the frame before was shown

    def end_of(self, start: Fraction, following: Fraction) -> Fraction:
        """Return when a frame ends: when the following frame starts or, if a gap is between them, where the gap starts.

        start, following: the start of the frame and of the following frame in seconds
        """
        if following - start <= min(LONGEST_HOLD_SECONDS, LONGEST_HOLD * max(Fraction(1), self._usual)):
            self._usual = following - start or self._usual
            return following
        return start + min(self._usual, Fraction(LONGEST_HOLD))


class Extent:
    """How many frames a video shows, and for how long. Grows frame by frame, in display order.

    fps: average frames per second
    frames: the number of frames so far
    start, last_start, end: the start of the first and of the last frame, and the end of the last frame, in seconds
    gaps: seconds in gaps
    """

    def __init__(self, fps: Fraction) -> None:
        self.frames = 0
        self.start = self.last_start = self.end = self.gaps = Fraction(0)
        self._gap_finder = GapFinder(fps)

    def add(self, start: Fraction) -> None:
        """Add the frame that starts at `start` (seconds)."""
        if self.frames:
            self.gaps += start - self._gap_finder.end_of(self.last_start, start)
        else:
            self.start = start
        self.frames += 1
        self.last_start = start

    @property
    def seconds(self) -> Fraction:
        """The time from the first frame to the end of the last one, which counts at most like an average frame.

        In MP4 with B-frames, the duration of the last frame is that of another frame.
        """
        last = self.end - self.last_start
        if self.frames > 1:
            last = min(last, (self.last_start - self.start - self.gaps) / (self.frames - 1))
        return self.last_start - self.start + last

    @property
    def seconds_without_gaps(self) -> Fraction:
        return self.seconds - self.gaps


@dataclass(frozen=True)
class Shown:
    """When a video shows frames.

    starts: the start of each frame in seconds, in order
    end: the end of the last frame in seconds
    """

    starts: Sequence[Fraction]
    end: Fraction

    def agrees(self, count: int, fps: Fraction, total: int) -> bool:
        """Return True if this many frames at this rate differ from what is shown by at most two frames.

        total: the number of frames to select. What the header states would be spread over as many
        """
        seconds, stated = self.end - self.starts[0], count / fps
        is_near = abs(len(self.starts) - count) <= 2 and abs(seconds - stated) * fps <= 2
        return is_near and abs(seconds - stated) * total * 2 < stated

    def extent(self, fps: Fraction) -> Extent:
        """Return the extent of the frames. fps: average frames per second"""
        found = Extent(fps)
        for start in self.starts:
            found.add(start)
        found.end = self.end
        return found

    def stretches(self, fps: Fraction) -> list[tuple[Fraction, Fraction]]:
        """Return the start and the end of each stretch of time without a gap. fps: average frames per second"""
        found, begin, gaps = [], self.starts[0], GapFinder(fps)
        for start, following in pairwise(chain(self.starts, [self.end])):
            if (end := gaps.end_of(start, following)) < following:
                found.append((begin, end))
                begin = following
        return [*found, (begin, self.end)] if begin < self.end else found


class DisplayTimes:
    """Converts the ticks of decoded frames, in display order, to seconds that never decrease.

    time_base: seconds per tick
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
        self._clock_offset = Fraction(0)
        self.are_unreliable = False  # True once a frame had no PTS, or a PTS not after the previous one

    def seconds(self, pts: int | None, dts: int | None, *, expected: Fraction) -> Fraction:
        """Return the time of the next frame in seconds, from its presentation and decoding timestamps.

        expected: the end of the previous frame; used if the frame has no timestamp or the clock restarted
        """
        self.are_unreliable |= pts is None or (self._last_pts is not None and pts <= self._last_pts)
        ticks = self._best_effort(pts, dts)
        if ticks is None:
            self._last = expected
            return expected
        seconds = (ticks - self._start_ticks) * self._time_base + self._clock_offset
        if self._last - seconds > RESTART_SECONDS:
            self._clock_offset += expected - seconds
            seconds = expected
        self._last = max(self._last, seconds)
        return self._last

    def _best_effort(self, pts: int | None, dts: int | None) -> int | None:
        """Return the more reliable timestamp, as FFmpeg's `best_effort_timestamp` does.

        This is the presentation timestamp, unless presentation timestamps have gone back more often than decoding
        timestamps. AVI stores only decoding timestamps; with B-frames they do not belong to the frames that carry them.
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
class Faults:
    """Timestamp faults of one kind: a noun, and their count, total length and first place."""

    noun: str
    count: int = 0
    total: Fraction = Fraction(0)
    first_at: Fraction = Fraction(0)

    def add(self, at: Fraction, seconds: Fraction, *, is_new: bool = True) -> None:
        self.first_at = self.first_at if self.count else at
        self.count += is_new
        self.total += seconds

    def describe(self, kind: str, repair: str) -> str:
        """Return a warning. kind: `video` or `audio`; repair: what is done about the faults"""
        return (
            f"the {kind} timestamps have {counted(self.count, self.noun)}, {float(self.total):.2f} s in all, the first "
            f"at {float(self.first_at):.2f} s: {repair}"
        )


@dataclass
class SoundTimes:
    """Aligns chunks of sound with their timestamps, and repairs gaps, overlaps and clock restarts.

    location: the file, for messages
    end: the end of the sound in seconds; None if unknown
    is_aligned: True if the last chunk is aligned with its timestamp. A chunk that starts exactly where that chunk ends
        is then aligned too, and needs no call of `shift`
    """

    location: str
    end: Fraction | None
    is_aligned: bool = False
    _gaps: Faults = field(default_factory=lambda: Faults("gap"))
    _overlaps: Faults = field(default_factory=lambda: Faults("overlap"))
    _restarts: Faults = field(default_factory=lambda: Faults("backward jump"))
    _clock_offset: Fraction = Fraction(0)
    _is_late: bool = False  # a whole chunk was too late; so are the next ones until they catch up

    def shift(self, seconds: Fraction, since: Fraction | None, reached: Fraction, length: Fraction) -> Fraction:
        """Return the seconds of silence to insert before a chunk, or, if negative, the seconds to cut from its start.

        seconds: the start of the chunk, according to its timestamp
        since: seconds from the start of the previous chunk to the start of this one; None if no chunk had a timestamp
        reached: the end of the previous chunk, in seconds
        length: the length of the chunk, in seconds
        Raises MediaError if the timestamps jump beyond the end of the sound, or by more than an hour.
        """
        ahead = seconds + self._clock_offset - reached
        self.is_aligned = False
        if since is not None and -RESTART_SECONDS <= since <= 0:
            return Fraction(0)  # a clock that stands still carries no information
        if self._clock_offset and ahead >= GAP_SECONDS and abs(seconds - reached) < GAP_SECONDS:
            self._clock_offset = Fraction(0)  # a single timestamp was wrong; the clock has not restarted
            return Fraction(0)
        if -ahead > RESTART_SECONDS:
            self._restarts.add(reached, -ahead)
            self._clock_offset -= ahead
            return Fraction(0)
        if ahead < 0 and (self._is_late or -ahead >= GAP_SECONDS):
            late = min(-ahead, length)
            self._overlaps.add(reached, late, is_new=not self._is_late)
            self._is_late = late == length
            return -late
        self._is_late = False
        if ahead < GAP_SECONDS:
            self.is_aligned = True
            return Fraction(0)
        is_beyond_the_end = self.end is not None and reached <= self.end < seconds - 1
        if is_beyond_the_end or ahead > LONGEST_GAP_SECONDS:
            raise MediaError(
                f"{self.location}: the audio timestamps jump from {float(reached):.2f} s to "
                f"{float(reached + ahead):.2f} s; is the file damaged?"
            )
        self._gaps.add(reached, ahead)
        return ahead

    def warnings(self) -> Iterator[str]:
        """Yield a warning for each kind of fault that was repaired."""
        repairs = {"filled with silence": self._gaps, "later samples are left out": self._overlaps}
        for repair, faults in {**repairs, "later sound is joined on": self._restarts}.items():
            if faults.count:
                yield faults.describe("audio", repair)
