"""The loop and the retries shared by all executors, tested with scripted workers."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

import pytest

from video_features.engines.base import Observer
from video_features.engines.pool import RetryPolicy, WorkerPool
from video_features.features import Outcome
from video_features.settings import FrameSettings, RunSettings
from video_features.tasks.videos import Task, Video
from video_features.tasks.work import WorkerConfig


def task(number: int) -> Task:
    return Task(Video(f"{number}.mp4"), number, str(number))


def outcome(task: Task, status: str = "done") -> Outcome:
    return Outcome(task.location, "colour", status, "already extracted" if status == "skipped" else "")


class Pool(WorkerPool):
    """A pool with one scripted worker. Each call of `_listen` runs the next planned step."""

    worker_name = "process"
    tries = 2

    def __init__(self) -> None:
        super().__init__(WorkerConfig({"colour": FrameSettings()}, RunSettings()), Observer(), lambda tasks: None)
        self.held: deque[Task] = deque()
        self.planned: deque[Callable[[], None]] = deque()

    def has_room(self) -> bool:
        return not self._waiting and not self.held

    def is_idle(self) -> bool:
        return not (self._completed or self._waiting or self.held)

    def submit(self, task: Task) -> None:
        self.held.append(task)

    def _assign(self) -> None:
        while self._waiting:
            self.held.append(self._waiting.popleft())

    def _listen(self, seconds: float) -> None:
        self.planned.popleft()()

    def _check_workers(self) -> None:
        pass

    def finish(self, status: str = "done") -> None:
        self._complete(done := self.held.popleft(), [outcome(done, status)])

    def die(self) -> None:
        tasks, self.held = list(self.held), deque()
        self._waiting.extend(self._worker_ended(tasks, tasks[:1], "signal SIGKILL"))


def test_only_a_suspect_runs_out_of_tries() -> None:
    policy, suspect, other = RetryPolicy(2), task(0), task(1)
    assert policy.allows(suspect, is_suspect=True) and policy.allows(other, is_suspect=False)
    assert not policy.allows(suspect, is_suspect=True) and policy.allows(other, is_suspect=False)
    assert policy.forget(other) and not policy.forget(other), "the policy must forget a task that has ended"
    assert policy.allows(suspect, is_suspect=False) is False, "a suspect without tries left must not be retried"


def test_what_a_worker_died_of_fails_by_name_and_the_others_are_done() -> None:
    pool = Pool()
    pool.submit(task(0))
    pool.submit(task(1))
    pool.planned.extend([pool.die, pool.die, pool.finish])
    (failed,) = pool.completed()
    assert failed.task.number == 0
    assert re.fullmatch(r"0\.mp4: the process .* 2 times \(signal SIGKILL\)", failed.outcomes[0].reason)
    (done,) = pool.completed()
    assert done.task.number == 1 and done.outcomes[0].status == "done" and pool.is_idle()


@pytest.mark.parametrize("dies", [True, False])
def test_a_task_with_which_a_worker_died_is_marked(dies: bool) -> None:
    pool = Pool()
    pool.submit(task(0))
    pool.planned.extend([*([pool.die] if dies else []), pool.finish])
    (completed,) = pool.completed()
    assert completed.was_retried is dies


def test_it_comes_back_once_there_is_room_again() -> None:
    pool = Pool()
    pool.submit(task(0))
    pool.planned.append(lambda: pool.held.clear())  # the video is read; another thread computes the last rows
    pool.is_idle = lambda: False  # type: ignore[method-assign]
    assert list(pool.completed()) == [] and pool.has_room()
