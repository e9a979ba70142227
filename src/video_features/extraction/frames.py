"""Selects the frames of a video that a feature needs: all of them, at a rate, or a number of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from typing import ClassVar

from ..errors import MediaError, counted
from ..media import Frame, FrameTrack, Wants
from ..media.timestamps import Faults, GapFinder, Shown
from ..settings import ClipSettings, FrameSettings, PictureSettings
from ..timeline.rates import ConstantRate, as_fraction, rate_for_total
from ..timeline.segments import Segment, in_seconds
from .sampling import Sampler, check_start_of

SPARSE_RATIO = 2  # source frames per selected frame, from which on the other frames are not decoded


class FrameSampler:
    """Selects frames: all, at a constant rate, or a given number. See `Sampler`.

    shown: returns when the video shows frames, and may read all of it; called for extraction_total only. Without it,
        the header is relied on
    """

    padding_hint: ClassVar[str] = "repeats the last frame to fill the row"
    pads = False

    def __init__(
        self,
        settings: PictureSettings,
        track: FrameTrack,
        segment: Segment | None = None,
        shown: Callable[[], Shown] | None = None,
    ) -> None:
        self.track = track
        self.segment = segment or Segment()
        self.can_pad_windows = isinstance(settings, ClipSettings)
        self.taken = 0
        self.has_enough = False
        self._total = settings.extraction_total if isinstance(settings, FrameSettings) else None
        self._own_fps = None if settings.extraction_fps is None else as_fraction(settings.extraction_fps)
        self._shown = shown
        self._gaps = settings.gaps
        self._gap_finder = GapFinder(track.fps)
        self._gaps_found = Faults("gap")
        self._left_out = Fraction(0)  # with extraction_total: seconds in gaps so far, which get no frames

    @property
    def fps(self) -> Fraction:
        return self.track.fps if self._rate is None else self._rate.fps

    @property
    def rate_hint(self) -> str:
        if self._total is not None:
            return "a higher extraction_total takes more frames"
        if self._gaps_found.count and self._gaps == "skip":
            lost = in_seconds(self._gaps_found.total)
            return f"{lost} in gaps of the timestamps are left out; gaps=hold repeats the frame before a gap"
        return "" if self._own_fps in (None, self.track.fps) else "a higher extraction_fps takes more frames"

    @property
    def is_sparse(self) -> bool:
        """True if the sampler selects so few frames that it may be faster not to decode the others."""
        return self._rate is not None and self._rate.fps * SPARSE_RATIO <= self.track.fps

    @cached_property
    def _rate(self) -> ConstantRate | None:
        """The rate at which frames are selected; None if every frame is. With extraction_total, the file is read."""
        if self._own_fps is not None:
            return ConstantRate(self._own_fps)
        return None if self._total is None else self._rate_for(self._total)

    def _rate_for(self, total: int) -> ConstantRate:
        """Return the rate that spreads `total` frames evenly over the time in which the video shows frames."""
        track = self.track
        count = track.frame_count()
        if (shown := self._shown_or_none()) is not None:
            within = [self.segment.overlap(*stretch) for stretch in self._stretches(shown)]
            seconds = sum((end - start for start, end in within), Fraction(0))
            if seconds and (len(within) > 1 or not shown.agrees(count, track.fps, total)):
                return ConstantRate(total / seconds, next(start for start, end in within if start < end))
        # By the header the segment may hold no frames (share 0). The header may be wrong, so decode and see.
        share = self.segment.share(track.start_seconds, _end_seconds(track, count)) or 1
        return ConstantRate(rate_for_total(total, track.fps, count * share), self.segment.start)

    def _shown_or_none(self) -> Shown | None:
        try:
            return None if self._shown is None else self._shown()
        except MediaError:  # extraction meets the same error, and reports it
            return None

    def _stretches(self, shown: Shown) -> list[tuple[Fraction, Fraction]]:
        if self._gaps == "hold":
            return [(shown.starts[0], shown.end)]
        return shown.stretches(self.track.fps)

    def wants(self, seconds: Fraction, end_seconds: Fraction) -> bool:
        """Return True if a frame shown from `seconds` to `end_seconds` may be selected.

        The span may also cover several consecutive frames. False then means that none of these frames is selected, so
        that the decoder can skip all of them.
        """
        rate = self._rate
        if rate is None:
            return True
        ticks = rate.all_ticks(seconds, end_seconds)
        return len(self.segment.cut(ticks, rate.fps, rate.origin)) > 0

    def take(self, sample: Frame) -> Iterator[Frame]:
        """Yield the frame once for each tick that selects the frame, at the time of the tick; without a rate, once."""
        selected, next_seconds = self._select(sample)
        self.has_enough = self.segment.is_over(next_seconds)
        for frame in selected:
            if self.taken == self._total:
                return
            self.taken += 1
            yield frame

    def finish(self) -> Iterator[Frame]:
        return iter(())

    def expected(self) -> int:
        track = self.track
        if self._total is not None:  # decides without reading the file
            return self._total if self.segment.share(track.start_seconds, _end_seconds(track)) else 0
        rate = self._rate
        if rate is None:
            return len(self.segment.cut(range(track.frame_count()), track.fps, track.start_seconds))
        ticks = rate.all_ticks(track.start_seconds, _end_seconds(track))
        return len(self.segment.cut(ticks, rate.fps, rate.origin))

    @property
    def is_exact(self) -> bool:
        return self.track.is_length_stated and (self._own_fps is None or self.track.has_constant_rate)

    def items(self, taken: int) -> int:
        return taken

    def required(self, items: int, *, padded: bool) -> int:
        return items

    def describe(self, taken: int) -> str:
        return counted(taken, "frame") + ("" if self.fps == self.track.fps else f" at {float(self.fps):g} fps")

    def warnings(self) -> Iterator[str]:
        if not self._gaps_found.count:
            return
        repair = "no rows are made for it (with gaps=hold, the frame before it is repeated)"
        if self._rate is None:
            repair = "the rows go on after it"
        elif self._gaps == "hold":
            repair = "the frame before it is repeated"
        yield self._gaps_found.describe("video", repair)

    def check_start(self, end: Fraction | None, *, tolerance_seconds: int = 0) -> None:
        check_start_of("video", self.segment, end, tolerance_seconds)

    def _select(self, frame: Frame) -> tuple[Iterable[Frame], Fraction]:
        """Return the frame for each tick that selects the frame, and the earliest start of the next selected frame."""
        rate, end = self._rate, self._end_of(frame)
        if rate is None:
            return [frame] if self.segment.holds(frame.seconds) else [], frame.end_seconds
        left_out = self._left_out
        ticks = rate.ticks(frame.seconds - left_out, end - left_out)
        if self._total is not None:
            self._left_out += frame.end_seconds - end

        def seconds(tick: int) -> Fraction:
            return rate.seconds(tick) + left_out

        selected = self.segment.cut(ticks, rate.fps, rate.origin + left_out)
        repeated = (frame.shown(seconds(tick), seconds(tick + 1)) for tick in selected)
        return repeated, seconds(ticks.stop)  # lazily, as a picture may be shown for an hour at a high rate

    def _end_of(self, frame: Frame) -> Fraction:
        """Return until when a frame is repeated, in seconds.

        Raises MediaError if a gap follows it and gaps=fail.
        """
        if frame.is_merged:
            return frame.end_seconds
        end = self._gap_finder.end_of(frame.seconds, frame.end_seconds)
        if end == frame.end_seconds:
            return end
        if self._gaps == "fail":
            raise MediaError(
                f"the video timestamps jump from {in_seconds(frame.seconds)} to {in_seconds(frame.end_seconds)}; "
                "gaps=skip makes no rows for such a gap, and gaps=hold repeats the frame before it"
            )
        self._gaps_found.add(frame.seconds, frame.end_seconds - frame.seconds)
        return frame.end_seconds if self._gaps == "hold" else end


def wants_of(samplers: Sequence[Sampler]) -> Wants | None:
    """Return a function that tells the decoder which frames any of the samplers may select.

    None means that every frame is to be decoded: one of the samplers is not sparse, or none of them selects frames.
    """
    frame_samplers: list[FrameSampler] = [sampler for sampler in samplers if isinstance(sampler, FrameSampler)]
    try:
        if not frame_samplers or not all(sampler.is_sparse for sampler in frame_samplers):
            return None
    except MediaError:  # the frames cannot be counted: decoding fails, too, and tells this feature and not the others
        return None
    return lambda seconds, end_seconds: any(sampler.wants(seconds, end_seconds) for sampler in frame_samplers)


def _end_seconds(track: FrameTrack, count: int | None = None) -> Fraction:
    """Return the end of a track in seconds. count: the number of frames, if known, as counting may take long"""
    if track.end_seconds is not None:
        return track.end_seconds
    return track.start_seconds + (track.frame_count() if count is None else count) / track.fps
