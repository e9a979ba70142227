"""What one process does with one video: look whether it is done, extract, write."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from .batches import Batches
from .errors import MediaError, OutputError, reason_of
from .extraction import Extractor
from .features import Features, Outcome
from .layout import remove_temporary
from .line import Line, read
from .lists import Task
from .media import MediaSource, open_source
from .outputs.base import Sink
from .outputs.choose import sink_of
from .profile import spent
from .records import describe_identity
from .registry import family
from .rows import Draft
from .run_settings import RunSettings
from .runtimes.devices import LARGEST_DEFAULT_BATCH
from .settings import FeatureSettings
from .weights import LocalWeights

MOST_UNDER_WAY = 64  # videos whose last rows wait for others
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

    def work(self, threads: int | None = None) -> Work:
        """Without networks. threads: that are to be used on a CPU; by default all"""
        if threads is not None:
            torch.set_num_threads(threads)
        return Work(self.extractors(), sink_of(self.run), self.run)

    @property
    def most_under_way(self) -> int:
        """How many videos may be under way at once: the one that is read, and those whose rows are not all there."""
        if not self.run.batch_across_videos:
            return 2
        sizes = [settings.batch_size or LARGEST_DEFAULT_BATCH for settings in self.by_feature.values()]
        return 1 + min(max(sizes), MOST_UNDER_WAY)


class Work:
    """Features of one video after another, with networks that stay in memory.

    extractors: one a feature; those of `extract` have their networks loaded
    sink: where features go
    run: the rate of folders of images and arrays, and whether videos share batches
    batches: where the last windows of a video wait for those of the next
    made_by: {feature: what decides its numbers}
    """

    def __init__(self, extractors: Sequence[Extractor], sink: Sink, run: RunSettings) -> None:
        self.extractors = extractors
        self.sink = sink
        self.batches = Batches(across_videos=run.batch_across_videos)
        self._source_fps = run.source_fps
        self._is_loaded = False
        self.made_by = {extractor.feature: extractor.describe() for extractor in extractors}

    def load(self, device: torch.device) -> None:
        """Put the networks on a device, the first time. Raises WeightsError where that cannot be."""
        if not self._is_loaded:
            with spent("loading networks"):
                for extractor in self.extractors:
                    extractor.on(device)
            self._is_loaded = True

    def record_paths(self, task: Task) -> list[Path]:
        """The files that vouch for the outputs of a video, of each feature."""
        paths = (self.sink.record_path(task.name, made_by) for made_by in self.made_by.values())
        return [path for path in paths if path is not None]

    def clear(self, tasks: Iterable[Task]) -> None:
        """Remove what a process that died while it was at these videos has left of them."""
        remove_temporary(*(path for task in tasks for path in self.record_paths(task)))

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

    def read(self, task: Task, on_progress: OnProgress) -> Reading:
        """Read a video to its end, for every feature that is not settled; its last rows may still be under way then,
        or wait in `batches`."""
        reading = Reading(task, self)
        ends = reading.ends = self.settled(task)
        waiting = [extractor for extractor in self.extractors if extractor.feature not in ends]
        try:
            if waiting:
                with open_source(
                    task.video.source, fps=self._source_fps, identity=task.identity, segment=task.video.segment
                ) as source:
                    self._read(reading, source, waiting, on_progress)
        except Exception as error:  # whatever it is, the other videos go on
            reading.give_up()
            ends |= {extractor.feature: failed(task, extractor.feature, error) for extractor in waiting}
        except BaseException:
            reading.give_up()
            raise
        return reading

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

    def _read(
        self, reading: Reading, source: MediaSource, extractors: Sequence[Extractor], on_progress: OnProgress
    ) -> None:
        task = reading.task
        having: list[Extractor] = []
        track_ends: list[Fraction | None] = []
        for extractor in extractors:
            try:
                track_ends.append(extractor.track(source).end_seconds)
                having.append(extractor)
            except MediaError as error:  # it has no sound, or no pictures: the others go on
                reading.ends[extractor.feature] = failed(task, extractor.feature, error)
        start, until = task.video.start_seconds or 0.0, task.video.end_seconds
        end = max((float(end) for end in track_ends if end is not None), default=until)
        length = None if end is None else max(0.0, (end if until is None else min(end, until)) - start)

        def show(seconds: float) -> None:
            reading.reached = max(reading.reached, seconds - start)  # tracks are not wholly in step
            on_progress(reading.reached, length)

        for one in having:
            draft = self.sink.draft(task.name, self.made_by[one.feature], with_preview=one.previews)
            reading.drafts.append(draft)
            reading.lines.append(Line(one, source, draft, self.batches))
        if having:
            read(source, reading.lines, show)


class Reading:
    """A video that was read. Its features are written once its rows are there.

    ends: {feature: its outcome}, as far as it is known
    reached: how many seconds of it were read
    """

    def __init__(self, task: Task, work: Work) -> None:
        self.task = task
        self.ends: dict[str, Outcome] = {}
        self.lines: list[Line] = []
        self.drafts: list[Draft] = []
        self.reached = 0.0
        self._work = work
        self._began = time.monotonic()

    @property
    def is_ready(self) -> bool:
        """Whether `outcomes` would not have to wait for a network."""
        return all(line.is_ready for line in self.lines)

    def outcomes(self) -> list[Outcome]:
        """Every feature's, in their order; waits for rows that are under way."""
        try:
            for line, draft in zip(self.lines, self.drafts, strict=True):
                feature, found = line.extractor.feature, self._written(line, draft)
                elapsed = time.monotonic() - self._began
                self.ends[feature] = replace(found, elapsed_seconds=elapsed, video_seconds=self.reached)
        finally:
            self.give_up()
        return [self.ends[extractor.feature] for extractor in self._work.extractors]

    def give_up(self) -> None:
        """Leave nothing under way, nor half written."""
        for line in self.lines:
            line.cancel()
        for draft in self.drafts:
            draft.close()
        self.lines, self.drafts = [], []

    def _written(self, line: Line, draft: Draft) -> Outcome:
        task, feature, result = self.task, line.extractor.feature, line.finish()
        if isinstance(result, Features):
            try:
                with spent("writing"):
                    saved = self._work.sink.write(task.name, result, draft)
                return Outcome(task.location, feature, "done", "", saved.features, saved.files)
            except OutputError as error:
                result = error
        return failed(task, feature, result)


def failed(task: Task, feature: str, error: BaseException) -> Outcome:
    """The outcome of a video that failed, with the reason in a line."""
    reason = reason_of(error, task.video.path)
    if task.video.is_part:
        reason = f"{task.location}{reason.removeprefix(task.video.path)}"
    return Outcome(task.location, feature, "failed", reason, error=type(error).__name__)
