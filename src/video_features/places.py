"""Where the work is done: what every such place offers, and this very process as one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from .features import Outcome
from .lists import Task
from .work import Work


class Watch:
    """Is told what is under way, and by itself shows nothing."""

    def progress(self, place: str, task: Task, seconds: float, length: float | None) -> None:
        """So many seconds of a task's video are done there, of so many where that is known."""

    def idle(self, place: str) -> None:
        """Nothing is under way there."""

    def ended(self) -> None:
        """A video has."""

    def close(self) -> None:
        """Nothing more comes."""


class Place(Protocol):
    """Where tasks are done, some at a time."""

    def has_room(self) -> bool:
        """Whether one more can begin."""

    def begin(self, task: Task) -> None:
        """Begin with a task."""

    def ended(self, timeout: float | None = None) -> Iterator[tuple[Task, list[Outcome]]]:
        """The tasks that have ended, at the latest after so many seconds; None: when one has."""

    def is_idle(self) -> bool:
        """Whether nothing is under way."""

    def stop(self) -> None:
        """Give up what is under way, and leave nothing half written."""


class InThisProcess:
    """Does one task after another, here. See `Place`."""

    def __init__(self, work: Work, device: torch.device, watch: Watch) -> None:
        self._work = work
        self._device = device
        self._watch = watch
        self._task: Task | None = None

    def has_room(self) -> bool:
        return self._task is None

    def begin(self, task: Task) -> None:
        self._work.load(self._device)  # only now: all videos may be done already
        self._task = task

    def ended(self, timeout: float | None = None) -> Iterator[tuple[Task, list[Outcome]]]:
        if (task := self._task) is not None:
            outcomes = self._work.extract(
                task, lambda seconds, length: self._watch.progress(str(self._device), task, seconds, length)
            )
            self._task = None
            self._watch.idle(str(self._device))
            yield task, outcomes

    def is_idle(self) -> bool:
        return self._task is None

    def stop(self) -> None:
        pass
