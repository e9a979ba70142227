"""What executors share whose workers may die: one loop, and one policy for tasks whose worker has died."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import ClassVar

from ..errors import VideoFeaturesError
from ..features import Outcome
from ..tasks.bookkeeping import failed
from ..tasks.videos import Task
from ..tasks.work import WorkerConfig
from .base import LISTEN_SECONDS, Completed, Observer

OnWorkerLost = Callable[[Collection[Task]], object]


class RetryPolicy:
    """Which tasks are tried again once their worker has ended: a worker may end for a reason that is not the task's.

    tries: of a task that is suspected, the first one included
    """

    def __init__(self, tries: int) -> None:
        self.tries = tries
        self._lost: dict[int, int] = {}  # by a task's number: how often a worker ended because of it, as it seems

    def allows(self, task: Task, *, is_suspect: bool) -> bool:
        """Note that the task's worker ended, perhaps because of it; whether it is tried again."""
        self._lost[task.number] = self._lost.get(task.number, 0) + is_suspect
        return self._lost[task.number] < self.tries

    def forget(self, task: Task) -> bool:
        """The task has ended. Whether a worker was lost with it before."""
        return self._lost.pop(task.number, None) is not None


class WorkerPool(ABC):
    """Tasks wait here for workers, and outcomes for whoever asks. See `Executor`.

    config: what each worker makes for itself
    on_worker_lost: told of the tasks with which a worker ended, and which it may have left half done
    """

    keeps_order = False
    worker_name: ClassVar[str]  # in messages
    tries: ClassVar[int]

    def __init__(self, config: WorkerConfig, observer: Observer, on_worker_lost: OnWorkerLost) -> None:
        self._config = config
        self._observer = observer
        self._on_worker_lost = on_worker_lost
        self._retries = RetryPolicy(self.tries)
        self._waiting: deque[Task] = deque()  # for a worker
        self._completed: list[Completed] = []

    @abstractmethod
    def has_room(self) -> bool: ...

    @abstractmethod
    def is_idle(self) -> bool: ...

    @abstractmethod
    def _listen(self, seconds: float) -> None:
        """Handle everything that workers have sent, and wait at most so long for something."""

    @abstractmethod
    def _check_workers(self) -> None:
        """Give up workers that take too long, or have nothing to do."""

    @abstractmethod
    def _assign(self) -> None:
        """Give the tasks that wait to workers that are free."""

    def completed(self, timeout: float | None = None) -> Iterator[Completed]:
        until = float("inf") if timeout is None else time.monotonic() + timeout
        had_room = self.has_room()
        while True:
            if timeout != 0:  # who only looks has more tasks to submit: larger bundles can be made of them then
                self._assign()
            if self._completed or self.is_idle():
                break
            self._listen(max(0.0, min(LISTEN_SECONDS, until - time.monotonic())))
            self._check_workers()
            if time.monotonic() >= until or (self.has_room() and not had_room):
                break
        completed, self._completed = self._completed, []
        yield from completed

    def _complete(self, task: Task, outcomes: Iterable[Outcome]) -> None:
        if self._retries.forget(task):  # a worker may have written the outputs and died before it said so
            outcomes = [replace(one, status="done", reason="") if one.status == "skipped" else one for one in outcomes]
        self._completed.append(Completed(task, list(outcomes)))

    def _fail(self, task: Task, error: Exception) -> None:
        self._complete(task, [failed(task, feature, error) for feature in self._config.features])

    def _worker_ended(self, tasks: Iterable[Task], suspects: Collection[Task], why: str) -> list[Task]:
        """The tasks of a worker that ended which are tried again. The others have failed: too many workers ended while
        they were suspected.

        why: how the worker ended
        """
        again: list[Task] = []
        for task in tasks:
            if self._retries.allows(task, is_suspect=task in suspects):
                again.append(task)
            else:
                error = f"the {self.worker_name} that read it ended, {self.tries} times ({why})"
                self._fail(task, VideoFeaturesError(error))
        return again
