"""What one process does with one video: look whether it is done, extract, write."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from .errors import MediaError, OutputError, reason_of
from .extraction import Extractor, extract_from
from .features import Features, Outcome
from .layout import remove_temporary
from .lists import Task
from .media import MediaSource, open_source
from .records import describe_identity
from .registry import family
from .rows import Draft
from .run_settings import RunSettings
from .runtime import choose_device
from .settings import FeatureSettings
from .sinks import Sink, sink_of
from .weights import LocalWeights

OnProgress = Callable[[float, "float | None"], object]  # seconds done of the video, and of how many where that is known


@dataclass(frozen=True)
class Recipe:
    """Everything that a process needs to be told to do its work.

    by_feature: {feature: its settings}
    weights: {(feature, key of a stream): those that are verified already}
    """

    by_feature: dict[str, FeatureSettings]
    run: RunSettings
    weights: dict[tuple[str, str], LocalWeights] = dataclasses.field(default_factory=dict)

    @property
    def features(self) -> list[str]:
        return list(self.by_feature)

    def extractors(self) -> list[Extractor]:
        """One a feature, their weights on this machine, no network loaded yet. Raises WeightsError."""
        built = [
            family(feature).build(settings, predict=self.run.show_pred) for feature, settings in self.by_feature.items()
        ]
        for extractor in built:
            for stream in extractor.all_streams():
                key = extractor.feature, stream.key
                self.weights[key] = stream.local_weights = self.weights.get(key) or stream.local_weights
        return built

    def work(self, device: str | None, threads: int | None = None) -> Work:
        """With networks loaded on a device. threads: that PyTorch is to use on a CPU; by default all"""
        if threads is not None:
            torch.set_num_threads(threads)
        work = Work(self.extractors(), sink_of(self.run), self.run.source_fps)
        work.load(choose_device(device))
        return work


class Work:
    """Features of one video after another, with networks that stay in memory.

    extractors: one a feature; those of `extract` have their networks loaded
    sink: where features go
    source_fps: the rate of folders of images and arrays
    made_by: {feature: what decides its numbers}
    """

    def __init__(self, extractors: Sequence[Extractor], sink: Sink, source_fps: float | None) -> None:
        self.extractors = extractors
        self.sink = sink
        self._source_fps = source_fps
        self._is_loaded = False
        self.made_by = {extractor.feature: extractor.describe() for extractor in extractors}

    def load(self, device: torch.device) -> None:
        """Put the networks on a device, the first time. Raises WeightsError where that cannot be."""
        if not self._is_loaded:
            for extractor in self.extractors:
                extractor.on(device)
            self._is_loaded = True

    def record_paths(self, task: Task) -> list[Path]:
        """The files that vouch for the outputs of a video, of each feature."""
        paths = (self.sink.record_path(task.name, made_by) for made_by in self.made_by.values())
        return [path for path in paths if path is not None]

    def clear(self, task: Task) -> None:
        """Remove what a process that died while it was at a video has left of it."""
        for path in self.record_paths(task):
            remove_temporary(path)

    def settled(self, task: Task) -> dict[str, Outcome]:
        """The outcomes of those features that need no extracting: they are there, something else is in their place, or
        there is no such video. No network is needed."""
        if task.problem is not None:
            return {extractor.feature: failed(task, extractor.feature, task.problem) for extractor in self.extractors}
        ends = {extractor.feature: self._existing(task, extractor) for extractor in self.extractors}
        return {feature: outcome for feature, outcome in ends.items() if outcome is not None}

    def is_settled(self, task: Task) -> bool:
        """Whether there is nothing to extract."""
        return len(self.settled(task)) == len(self.extractors)

    def extract(self, task: Task, on_progress: OnProgress) -> list[Outcome]:
        """Every feature's outcome, in their order; those that are settled are not extracted again."""
        started = time.monotonic()
        ends = self.settled(task)
        waiting = [extractor for extractor in self.extractors if extractor.feature not in ends]
        if waiting:
            try:
                with open_source(
                    task.video.source, fps=self._source_fps, identity=task.identity, segment=task.video.segment
                ) as source:
                    ends |= self._extracted(task, source, waiting, on_progress, started)
            except Exception as error:  # whatever it is, the other videos go on
                ends |= {extractor.feature: failed(task, extractor.feature, error) for extractor in waiting}
        return [ends[extractor.feature] for extractor in self.extractors]

    def record(self, task: Task, feature: str) -> dict[str, Any]:
        """What the outputs of a feature of a video that is not read yet would be compared by."""
        assert task.identity is not None
        source = describe_identity(task.identity, task.video.segment, self._source_fps)
        return {**self.made_by[feature], "source": source}

    def _existing(self, task: Task, extractor: Extractor) -> Outcome | None:
        try:
            saved = self.sink.existing(
                task.name,
                self.record(task, extractor.feature),
                with_predictions=extractor.predicts,
                with_preview=extractor.previews,
            )
        except OutputError as error:
            return failed(task, extractor.feature, error)
        if saved is None:
            return None
        return Outcome(task.location, extractor.feature, "skipped", "already extracted", saved.features, saved.files)

    def _extracted(
        self,
        task: Task,
        source: MediaSource,
        extractors: Sequence[Extractor],
        on_progress: OnProgress,
        started: float,
    ) -> dict[str, Outcome]:
        ends: dict[str, Outcome] = {}
        having: list[Extractor] = []
        track_ends: list[Fraction | None] = []
        for extractor in extractors:
            try:
                track_ends.append(extractor.track(source).end_seconds)
                having.append(extractor)
            except MediaError as error:  # it has no sound, or no pictures: the others go on
                ends[extractor.feature] = failed(task, extractor.feature, error)
        start, until = task.video.start_seconds or 0.0, task.video.end_seconds
        end = max((float(end) for end in track_ends if end is not None), default=until)
        length = None if end is None else max(0.0, (end if until is None else min(end, until)) - start)
        reached = 0.0

        def show(seconds: float) -> None:
            nonlocal reached
            reached = max(reached, seconds - start)  # tracks are not wholly in step
            on_progress(reached, length)

        with ExitStack() as stack:
            drafts = [
                stack.enter_context(self.sink.draft(task.name, self.made_by[one.feature], with_preview=one.previews))
                for one in having
            ]
            results = extract_from(source, having, drafts, show) if having else []
            for extractor, result, draft in zip(having, results, drafts, strict=True):
                outcome = self._written(task, extractor, result, draft)
                elapsed = time.monotonic() - started
                ends[extractor.feature] = replace(outcome, elapsed_seconds=elapsed, video_seconds=reached)
        return ends

    def _written(self, task: Task, extractor: Extractor, result: Features | Exception, draft: Draft) -> Outcome:
        if isinstance(result, Features):
            try:
                saved = self.sink.write(task.name, result, draft)
                return Outcome(task.location, extractor.feature, "done", "", saved.features, saved.files)
            except OutputError as error:
                result = error
        return failed(task, extractor.feature, result)


def failed(task: Task, feature: str, error: BaseException) -> Outcome:
    """The outcome of a video that failed, with the reason in a line."""
    reason = reason_of(error, task.video.path)
    if task.video.is_part:
        reason = f"{task.location}{reason.removeprefix(task.video.path)}"
    return Outcome(task.location, feature, "failed", reason, error=type(error).__name__)
