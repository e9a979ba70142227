"""Check from its outputs, without any network, whether a video is finished; used by the scheduling process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import OutputError, printable, reason_of
from ..extraction import Extractor
from ..features import Outcome
from ..outputs.base import Sink
from ..outputs.layout import remove_temporary
from ..outputs.provenance import SourceRecord
from .videos import Task


class Bookkeeping:
    """Checks which outputs of a run exist already.

    extractors: one per feature; their networks need not be loaded
    sink: where the features are written
    source_fps: the frame rate given for folders of images and arrays; None if not given
    provenance: {feature: everything that determines its values}
    """

    def __init__(self, extractors: Sequence[Extractor], sink: Sink, source_fps: float | None) -> None:
        self.extractors = extractors
        self.sink = sink
        self.source_fps = source_fps
        self.provenance = {extractor.feature: extractor.provenance() for extractor in extractors}

    def record_paths(self, task: Task) -> list[Path]:
        """The record files, one per feature, which are written last and so mark the outputs of a video as complete."""
        paths = (self.sink.record_path(task.name, provenance) for provenance in self.provenance.values())
        return [path for path in paths if path is not None]

    def remove_leftovers(self, tasks: Iterable[Task]) -> None:
        """Remove the temporary files that a process left behind when it died with these tasks."""
        remove_temporary(*(path for task in tasks for path in self.record_paths(task)))

    def finished(self, task: Task) -> dict[str, Outcome]:
        """{feature: outcome} of the features that need no extraction.

        The outputs exist, or conflicting outputs exist under the same name, or the task has a problem.
        """
        if task.problem is not None:
            return {extractor.feature: failed(task, extractor.feature, task.problem) for extractor in self.extractors}
        outcomes = {extractor.feature: self._existing(task, extractor) for extractor in self.extractors}
        return {feature: outcome for feature, outcome in outcomes.items() if outcome is not None}

    def is_finished(self, task: Task) -> bool:
        """Whether no feature of the video needs extraction."""
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
    """The outcome of a feature that failed, with the reason in one line."""
    reason = reason_of(error, task.video.shown)
    if task.video.is_part:
        reason = f"{printable(task.location)}{reason.removeprefix(printable(task.video.shown))}"
    return Outcome(task.location, feature, "failed", reason, error=type(error).__name__)
