"""Messages from a worker to the scheduling process, over a queue or a pipe."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import VideoFeaturesError
from ..features import Outcome


@dataclass(frozen=True)
class Ready:
    """The worker has loaded its networks. device: in words"""

    device: str


@dataclass(frozen=True)
class Progress:
    """How many seconds of the current video have been read. length: its length in seconds; None if unknown"""

    seconds: float
    length: float | None


@dataclass(frozen=True)
class VideoRead:
    """The latest task has been read to its end. Its last rows may not be computed yet."""


@dataclass(frozen=True)
class TimeSpent:
    """The time since the previous TimeSpent message. seconds: {activity: seconds spent on it}"""

    seconds: dict[str, float]


@dataclass(frozen=True)
class Logged:
    """A message that the worker logged. level: as in `logging`"""

    level: int
    message: str


@dataclass(frozen=True)
class TaskDone:
    """The oldest task in progress has ended. is_exiting: whether the worker exits, because its device failed"""

    outcomes: list[Outcome]
    is_exiting: bool


@dataclass(frozen=True)
class CannotStart:
    """The worker cannot build its networks, and exits."""

    error: VideoFeaturesError


@dataclass(frozen=True)
class Broken:
    """The worker stopped with an error that no video caused."""

    error: BaseException


Message = Ready | Progress | VideoRead | TimeSpent | Logged | TaskDone | CannotStart | Broken
