"""What the schedule makes of the outcomes that an executor returns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from video_features.engines.base import Completed, Observer
from video_features.features import Outcome
from video_features.outputs.provenance import Provenance
from video_features.runs.schedule import Schedule
from video_features.tasks.videos import Task, Video

FEATURES = ("clip", "resnet")


class Bookkeeping:
    """Says that the outputs of `resnet` were there before the run."""

    extractors = FEATURES
    provenance: ClassVar = {feature: Provenance(feature, {}, {}, {}) for feature in FEATURES}

    def finished(self, task: Task) -> dict[str, Outcome]:
        return {"resnet": Outcome(task.location, "resnet", "skipped", "already extracted")}


class Executor:
    """Finds the outputs of every feature, as a worker does whose predecessor wrote them and died."""

    keeps_order = True

    def __init__(self, *, was_retried: bool) -> None:
        self.was_retried = was_retried
        self.tasks: list[Task] = []

    def has_room(self) -> bool:
        return not self.tasks

    def is_idle(self) -> bool:
        return not self.tasks

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def completed(self, timeout: float | None = None) -> Iterator[Completed]:
        while self.tasks:
            task = self.tasks.pop()
            found = [Outcome(task.location, feature, "skipped", "already extracted") for feature in FEATURES]
            yield Completed(task, found, was_retried=self.was_retried)

    def shutdown(self) -> None:
        pass


@pytest.mark.parametrize(("was_retried", "clip"), [(True, "done"), (False, "skipped")])
def test_only_outputs_that_a_lost_worker_made_count_as_done(was_retried: bool, clip: str) -> None:
    executor: Any = Executor(was_retried=was_retried)
    schedule = Schedule(Bookkeeping(), executor, None, None, Observer())  # type: ignore[arg-type]
    outcomes = list(schedule.outcomes([Task(Video("a.mp4"), 0, "a")]))
    assert {outcome.feature: outcome.status for outcome in outcomes} == {"clip": clip, "resnet": "skipped"}
