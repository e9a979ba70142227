"""Run tasks one after another in a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue

from ..errors import VideoFeaturesError
from ..runtimes.devices import Device, in_words
from ..signals import stop_when
from ..tasks.videos import Task
from ..tasks.work import Work
from .base import LISTEN_SECONDS, Completed, Observer
from .messages import Broken, Message, Progress, TaskDone, TimeSpent, VideoRead
from .worker import Stopped, work_through

STOP_SECONDS = 0.8  # how long to wait for the thread; Ctrl-C ends within a second


class ThreadExecutor:
    """Runs tasks one after another in a thread of this process. See `Executor`.

    max_in_progress: how many tasks may be in progress; one is read while the others wait for their last rows
    """

    keeps_order = True

    def __init__(self, work: Work, device: Device, observer: Observer, max_in_progress: int) -> None:
        self._work = work
        self._device = device
        self._observer = observer
        self._max_in_progress = max_in_progress
        self._tasks: list[Task] = []  # in progress
        self._reading: Task | None = None
        self._thread: threading.Thread | None = None
        self._submitted: SimpleQueue[Task | None] = SimpleQueue()  # None wakes the thread when it is to stop
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._is_stopping = False

    def has_room(self) -> bool:
        return self._reading is None and len(self._tasks) < self._max_in_progress

    def submit(self, task: Task) -> None:
        self._work.load(self._device)  # not earlier: every video may be finished already
        if self._thread is None:
            self._observer.ready(str(self._device), in_words(self._device))
            self._thread = threading.Thread(target=self._serve, name="reader", daemon=True)
            self._thread.start()
        self._tasks.append(task)
        self._reading = task
        self._submitted.put(task)

    def completed(self, timeout: float | None = None) -> Iterator[Completed]:
        while self._tasks:
            try:
                message = self._messages.get(timeout=LISTEN_SECONDS if timeout is None else timeout)
            except Empty:
                self._observer.waiting()
                if timeout is None:
                    continue
                return
            if isinstance(message, TaskDone):
                yield Completed(self._tasks.pop(0), message.outcomes)
                return
            self._handle(message)
            if timeout is None and self.has_room():
                return

    def is_idle(self) -> bool:
        return not self._tasks

    def shutdown(self) -> None:
        self._is_stopping = True
        self._submitted.put(None)
        if self._thread is not None:
            # The thread notices at its next frame, or while it waits. A decoder or a server that hangs must not keep
            # the caller: the thread then stops as soon as it returns from there.
            self._thread.join(STOP_SECONDS)

    def _handle(self, message: Message) -> None:
        worker = str(self._device)
        match message:
            case Progress() if self._reading is not None:
                self._observer.progress(worker, self._reading, message.seconds, message.length)
            case VideoRead():
                self._reading = None
                self._observer.idle(worker)
            case TimeSpent():
                self._observer.timed(message.seconds)
            case Broken():
                raise message.error

    def _serve(self) -> None:
        stop_when(lambda: self._is_stopping)
        try:
            work_through(self._work, self._receive, self._send)
        except Stopped:
            if not self._is_stopping:
                reason = f"{self._device} failed, and this process cannot use it again: start a new process"
                self._send(Broken(VideoFeaturesError(reason)))
        except BaseException as error:  # no video caused it: raise it in the caller's thread
            self._send(Broken(error))

    def _receive(self, timeout: float | None) -> Task | None:
        try:
            task = self._submitted.get(timeout=timeout)
        except Empty:
            task = None
        self._raise_if_stopping()
        return task

    def _send(self, message: Message) -> None:
        self._messages.put(message)
        if isinstance(message, Progress):
            self._raise_if_stopping()

    def _raise_if_stopping(self) -> None:
        if self._is_stopping:
            raise Stopped
