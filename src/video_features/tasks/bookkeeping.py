"""Is a video done? Answered from its outputs, without a network; used by the process that schedules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import OutputError, reason_of
from ..extraction import Extractor
from ..features import Outcome
from ..outputs.base import Sink
from ..outputs.layout import remove_temporary
from ..outputs.provenance import SourceRecord
from .videos import Task


class Bookkeeping:
    """What is there of the outputs of a run's videos.

    extractors: one a feature; their networks need not be loaded
    sink: where features go
    source_fps: the rate given for folders of images and arrays
    provenance: {feature: what decides its numbers}
    """

    def __init__(self, extractors: Sequence[Extractor], sink: Sink, source_fps: float | None) -> None:
        self.extractors = extractors
        self.sink = sink
        self.source_fps = source_fps
        self.provenance = {extractor.feature: extractor.provenance() for extractor in extractors}

    def record_paths(self, task: Task) -> list[Path]:
        """The files that vouch for the outputs of a video, one a feature."""
        paths = (self.sink.record_path(task.name, provenance) for provenance in self.provenance.values())
        return [path for path in paths if path is not None]

    def remove_leftovers(self, tasks: Iterable[Task]) -> None:
        """Remove the temporary files of a process that died while it worked on these videos."""
        remove_temporary(*(path for task in tasks for path in self.record_paths(task)))

    def finished(self, task: Task) -> dict[str, Outcome]:
        """{feature: outcome} of the features that need no extracting: their outputs are there, or others are in their
        place, or there is no such video."""
        if task.problem is not None:
            return {extractor.feature: failed(task, extractor.feature, task.problem) for extractor in self.extractors}
        outcomes = {extractor.feature: self._existing(task, extractor) for extractor in self.extractors}
        return {feature: outcome for feature, outcome in outcomes.items() if outcome is not None}

    def is_finished(self, task: Task) -> bool:
        """Whether there is nothing to extract."""
        return len(self.finished(task)) == len(self.extractors)

    def _existing(self, task: Task, extractor: Extractor) -> Outcome | None:
        assert task.identity is not None
        feature = extractor.feature
        source = SourceRecord.of(task.identity, task.video.segment, self.source_fps)
        try:
            saved = self.sink.existing(task.name, self.provenance[feature], source, extractor.extras)
        except OutputError as error:
            return failed(task, feature, error)
        if saved is None:
            return None
        return Outcome(task.location, feature, "skipped", "already extracted", saved.features, saved.files)


def failed(task: Task, feature: str, error: BaseException) -> Outcome:
    """The outcome of a video that failed, with the reason in one line."""
    reason = reason_of(error, task.video.path)
    if task.video.is_part:
        reason = f"{task.location}{reason.removeprefix(task.video.path)}"
    return Outcome(task.location, feature, "failed", reason, error=type(error).__name__)
