"""What workers send to the process that schedules, whatever is between them: a queue or a pipe."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import VideoFeaturesError
from ..features import Outcome


@dataclass(frozen=True)
class Ready:
    """The worker has loaded its networks."""


@dataclass(frozen=True)
class Progress:
    """So many seconds of the video that is read are done; length: of how many, where that is known."""

    seconds: float
    length: float | None


@dataclass(frozen=True)
class VideoRead:
    """The task that was given last is read to its end; its last rows may still be computed."""


@dataclass(frozen=True)
class TimeSpent:
    """Seconds, by what they were spent on, since the last such message."""

    seconds: dict[str, float]


@dataclass(frozen=True)
class Logged:
    """What the worker logged, at a level of `logging`."""

    level: int
    message: str


@dataclass(frozen=True)
class TaskDone:
    """The oldest task in progress has ended. is_leaving: whether the worker ends, because its device failed"""

    outcomes: list[Outcome]
    is_leaving: bool


@dataclass(frozen=True)
class CannotStart:
    """The worker cannot make its networks, and ends."""

    error: VideoFeaturesError


@dataclass(frozen=True)
class Broken:
    """The worker ended with an error that is none of a video's."""

    error: BaseException


Message = Ready | Progress | VideoRead | TimeSpent | Logged | TaskDone | CannotStart | Broken
