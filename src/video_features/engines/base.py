"""The interfaces of a run: an `Executor` runs tasks, and an `Observer` follows their progress."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..features import Outcome
from ..tasks.videos import Task

LISTEN_SECONDS = 0.5  # longest single wait; on some systems a wait for a thread blocks Ctrl-C
SHUTDOWN_SECONDS = 10.0  # time for a worker to stop by itself before it is killed


class Observer:
    """Receives the events of a run. This base class only adds up times; it displays nothing.

    seconds: {activity: seconds that all workers have spent on it so far}
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def ready(self, worker: str, device: str) -> None:
        """A worker has loaded its networks. device: in words"""

    def waiting(self) -> None:
        """Nothing has happened for a moment. Called about every LISTEN_SECONDS, so that a clock can go on."""

    def progress(self, worker: str, task: Task, seconds: float, length: float | None) -> None:
        """A worker has read `seconds` of a video. length: the video's length in seconds; None if unknown"""

    def idle(self, worker: str) -> None:
        """A worker is not reading any video."""

    def timed(self, seconds: Mapping[str, float]) -> None:
        """Workers have spent more time. seconds: {activity: seconds}"""
        for activity, spent in seconds.items():
            self.seconds[activity] += spent

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """A video has ended. outcomes: one per feature"""

    def close(self) -> None:
        """The run is over; no events follow."""


@dataclass(frozen=True)
class Completed:
    """A task that has ended, with an outcome per feature.

    was_retried: whether an earlier worker died with the task, perhaps after it had written outputs
    """

    task: Task
    outcomes: list[Outcome]
    was_retried: bool = False


class Executor(Protocol):
    """Runs several tasks at a time.

    keeps_order: whether tasks complete in the order of submission
    """

    keeps_order: bool

    def has_room(self) -> bool:
        """Whether another task can be submitted."""

    def submit(self, task: Task) -> None:
        """Start a task. Raises VideoFeaturesError if no worker can run it."""

    def completed(self, timeout: float | None = None) -> Iterator[Completed]:
        """Yield the tasks that have completed.

        Waits for at most `timeout` seconds; with None, waits until a task has completed. Also returns as soon as there
        is room for another task, even if none has completed, so that the caller can submit the next task at once.
        """

    def is_idle(self) -> bool:
        """Whether no task is in progress."""

    def shutdown(self) -> None:
        """Cancel the tasks in progress and remove their partially written files."""
