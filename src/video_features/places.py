"""Where the work is done: what every such place offers, and this very process as one."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import torch

from .errors import VideoFeaturesError
from .features import Outcome
from .lists import Task
from .reader import Stopped, work_through
from .work import Work

LISTEN_SECONDS = 0.5  # at a time, so that Ctrl-C is heard where waiting for a thread holds it back


class Watch:
    """Is told what is under way, and by itself shows nothing.

    seconds: what the time of all processes was spent on so far
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def progress(self, place: str, task: Task, seconds: float, length: float | None) -> None:
        """So many seconds of a task's video are done there, of so many where that is known."""

    def idle(self, place: str) -> None:
        """Nothing is read there."""

    def spent(self, seconds: dict[str, float]) -> None:
        """So much time more was spent on these."""
        for what, more in seconds.items():
            self.seconds[what] += more

    def ended(self) -> None:
        """A video has."""

    def close(self) -> None:
        """Nothing more comes."""


class Place(Protocol):
    """Where tasks are done, some at a time.

    keeps_order: whether they end in the order in which they begin
    """

    keeps_order: bool

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
    """Does one task after another, in a thread of this process. See `Place`.

    most_under_way: how many may be under way at once, of which one is read
    """

    keeps_order = True

    def __init__(self, work: Work, device: torch.device, watch: Watch, most_under_way: int) -> None:
        self._work = work
        self._device = device
        self._watch = watch
        self._most_under_way = most_under_way
        self._tasks: list[Task] = []  # under way
        self._reading: Task | None = None
        self._thread: threading.Thread | None = None
        self._given: SimpleQueue[Task] = SimpleQueue()
        self._said: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self._is_stopping = False

    def has_room(self) -> bool:
        return self._reading is None and len(self._tasks) < self._most_under_way

    def begin(self, task: Task) -> None:
        self._work.load(self._device)  # only now: all videos may be done already
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="reader", daemon=True)
            self._thread.start()
        self._tasks.append(task)
        self._reading = task
        self._given.put(task)

    def ended(self, timeout: float | None = None) -> Iterator[tuple[Task, list[Outcome]]]:
        """Where one was read, and has not ended, there is room for another, so that it does not wait for this one."""
        while self._tasks:
            try:
                kind, *said = self._said.get(timeout=LISTEN_SECONDS if timeout is None else timeout)
            except Empty:
                if timeout is None:
                    continue
                return
            if kind == "outcomes":
                task = self._tasks.pop(0)
                yield task, said[0]
                return
            self._hear(kind, *said)
            if timeout is None and self.has_room():
                return

    def is_idle(self) -> bool:
        return not self._tasks

    def stop(self) -> None:
        self._is_stopping = True
        if self._thread is not None:
            self._thread.join()

    def _hear(self, kind: str, *said: Any) -> None:
        place = str(self._device)
        if kind == "progress" and self._reading is not None:
            self._watch.progress(place, self._reading, *said)
        elif kind == "read":
            self._reading = None
            self._watch.idle(place)
        elif kind == "spent":
            self._watch.spent(*said)
        elif kind == "broken":
            raise said[0]

    def _serve(self) -> None:
        try:
            work_through(self._work, self._receive, self._say)
        except Stopped:
            if not self._is_stopping:
                words = f"{self._device} is in error, and of no more use to this process: begin again"
                self._say("broken", VideoFeaturesError(words))
        except BaseException as error:  # a fault of ours, which is to be seen
            self._say("broken", error)

    def _receive(self, timeout: float | None) -> Task | None:
        while True:
            self._check_goes_on()
            try:
                return self._given.get(timeout=LISTEN_SECONDS if timeout is None else timeout)
            except Empty:
                if timeout is not None:
                    return None

    def _say(self, *words: Any) -> None:
        self._said.put(words)
        if words[0] == "progress":
            self._check_goes_on()

    def _check_goes_on(self) -> None:
        if self._is_stopping:
            raise Stopped
