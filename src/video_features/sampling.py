"""Which frames of a source a feature takes: every one, a rate's, or a number spread evenly over it."""

from __future__ import annotations

from collections.abc import Iterator

from .media import Frame, FrameSource
from .settings import FeatureSettings, FrameSettings
from .windows import ConstantRate, as_rate, rate_for_total


class Sampler:
    """Takes one feature's frames from one source.

    fps: frames per second taken; the source's average where every frame is
    taken: how many frames so far
    """

    def __init__(self, settings: FeatureSettings, source: FrameSource) -> None:
        self._source = source
        self._total = settings.extraction_total if isinstance(settings, FrameSettings) else None
        self._rate: ConstantRate | None = None
        if settings.extraction_fps is not None:
            self._rate = ConstantRate(as_rate(settings.extraction_fps))
        elif self._total is not None:
            self._rate = ConstantRate(rate_for_total(self._total, source.fps, source.frame_count()))
        self.fps = source.fps if self._rate is None else self._rate.fps
        self.taken = 0

    def take(self, frame: Frame) -> Iterator[Frame]:
        """The frame, once for every time that it is taken, shown when that is."""
        for shown in self._shown(frame):
            if self.taken == self._total:
                return
            self.taken += 1
            yield shown

    def expected(self) -> int:
        """How many frames it will take, by what the source states of itself before it is decoded."""
        if self._rate is None:
            return self._source.frame_count()
        start = self._source.start_seconds
        end = self._source.end_seconds
        count = self._rate.count(start, start + self._source.frame_count() / self._source.fps if end is None else end)
        return count if self._total is None else min(count, self._total)

    def _shown(self, frame: Frame) -> Iterator[Frame]:
        if self._rate is None:
            yield frame
            return
        for tick in self._rate.ticks(frame.seconds, frame.end_seconds):
            yield frame.shown(tick / self._rate.fps, (tick + 1) / self._rate.fps)
