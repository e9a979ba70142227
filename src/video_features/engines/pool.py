"""Base of the executors whose workers may die: one event loop, and one retry policy for tasks whose worker died."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import ClassVar

from ..errors import VideoFeaturesError
from ..features import Outcome
from ..tasks.bookkeeping import failed
from ..tasks.videos import Task
from ..tasks.work import WorkerConfig
from .base import LISTEN_SECONDS, Completed, Observer

OnWorkerLost = Callable[[Collection[Task]], object]


class RetryPolicy:
    """Decides which tasks to retry after their worker died. A worker may die for a reason unrelated to its tasks.

    tries: how often a suspected task is tried, the first time included
    """

    def __init__(self, tries: int) -> None:
        self.tries = tries
        self._lost: dict[int, int] = {}  # {task number: how many workers died with it as a suspect}

    def allows(self, task: Task, *, is_suspect: bool) -> bool:
        """Record that a task's worker died, and return whether to retry the task. is_suspect: it may be to blame"""
        self._lost[task.number] = self._lost.get(task.number, 0) + is_suspect
        return self._lost[task.number] < self.tries

    def forget(self, task: Task) -> bool:
        """Forget a task that has ended, and return whether it ever lost a worker."""
        return self._lost.pop(task.number, None) is not None


class WorkerPool(ABC):
    """Queues tasks for workers, and outcomes for the caller. See `Executor`.

    config: what each worker builds its work from
    on_worker_lost: called with the tasks of a worker that died, whose outputs may be half written
    """

    keeps_order = False
    worker_name: ClassVar[str]  # in messages
    tries: ClassVar[int]

    def __init__(self, config: WorkerConfig, observer: Observer, on_worker_lost: OnWorkerLost) -> None:
        self._config = config
        self._observer = observer
        self._on_worker_lost = on_worker_lost
        self._retries = RetryPolicy(self.tries)
        self._waiting: deque[Task] = deque()  # tasks that no worker has yet
        self._completed: list[Completed] = []

    @abstractmethod
    def has_room(self) -> bool: ...

    @abstractmethod
    def is_idle(self) -> bool: ...

    @abstractmethod
    def _listen(self, seconds: float) -> None:
        """Wait for a message for at most `seconds`, then handle all messages that workers have sent."""

    @abstractmethod
    def _check_workers(self) -> None:
        """End workers that take too long, or that have been idle for too long."""

    @abstractmethod
    def _assign(self) -> None:
        """Give waiting tasks to free workers."""

    def completed(self, timeout: float | None = None) -> Iterator[Completed]:
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        had_room = self.has_room()
        while True:
            if timeout != 0:  # a caller that only polls has more tasks to submit, which allows larger bundles
                self._assign()
            if self._completed or self.is_idle():
                break
            self._listen(max(0.0, min(LISTEN_SECONDS, deadline - time.monotonic())))
            self._check_workers()
            self._observer.waiting()
            if time.monotonic() >= deadline or (self.has_room() and not had_room):
                break
        completed, self._completed = self._completed, []
        yield from completed

    def _complete(self, task: Task, outcomes: list[Outcome]) -> None:
        self._completed.append(Completed(task, outcomes, was_retried=self._retries.forget(task)))

    def _fail(self, task: Task, error: Exception) -> None:
        self._complete(task, [failed(task, feature, error) for feature in self._config.features])

    def _worker_ended(self, tasks: Iterable[Task], suspects: Collection[Task], how_it_ended: str) -> list[Task]:
        """Sort the tasks of a worker that died: return the tasks to retry, and fail the suspects that are out of tries.

        how_it_ended: in words, for the message
        """
        retried: list[Task] = []
        for task in tasks:
            if self._retries.allows(task, is_suspect=task in suspects):
                retried.append(task)
            else:
                error = f"the {self.worker_name} reading it died {self.tries} times ({how_it_ended})"
                self._fail(task, VideoFeaturesError(error))
        return retried
