"""What every executor offers: tasks go in, outcomes come out; and what an observer is told meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..features import Outcome
from ..tasks.videos import Task

LISTEN_SECONDS = 0.5  # at a time, so that Ctrl-C is heard where waiting for a thread holds it back
SHUTDOWN_SECONDS = 10.0  # in which a worker that is asked to stop does so, or is killed


class Observer:
    """Is told what happens in a run; by itself it shows nothing.

    seconds: the time of all workers so far, by what it was spent on
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def progress(self, worker: str, task: Task, seconds: float, length: float | None) -> None:
        """A worker has read so many seconds of a video; length: of how many, where that is known."""

    def idle(self, worker: str) -> None:
        """A worker reads nothing."""

    def timed(self, seconds: Mapping[str, float]) -> None:
        """So much more time was spent, by what it was spent on."""
        for what, more in seconds.items():
            self.seconds[what] += more

    def ended(self) -> None:
        """A video has ended."""

    def close(self) -> None:
        """The run is over."""


@dataclass(frozen=True)
class Completed:
    """A task that has ended, and the outcome of every feature."""

    task: Task
    outcomes: list[Outcome]


class Executor(Protocol):
    """Runs tasks, some at a time.

    keeps_order: whether they complete in the order in which they are submitted
    """

    keeps_order: bool

    def has_room(self) -> bool:
        """Whether one more can be submitted."""

    def submit(self, task: Task) -> None:
        """Begin with a task. Raises VideoFeaturesError where no worker can work."""

    def completed(self, timeout: float | None = None) -> Iterator[Completed]:
        """The tasks that have completed, after at most so many seconds; None: once one has.

        It also returns, without any, once there is room for another task, so that this one does not have to wait.
        """

    def is_idle(self) -> bool:
        """Whether no task is in progress."""

    def shutdown(self) -> None:
        """Give up what is in progress, and leave nothing half written."""
