"""What a worker does, a thread or a process: take tasks and send outcomes, until it is told to stop. A video is read
while the last rows of those before it are computed."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection

from ..errors import VideoFeaturesError, with_kind
from ..runtimes.devices import choose_device
from ..signals import unblock_signals
from ..tasks.videos import Task
from ..tasks.work import VideoInProgress, Work, WorkerConfig
from ..timing import take_seconds
from .messages import CannotStart, Logged, Message, Progress, Ready, TaskDone, TimeSpent, VideoRead

PROGRESS_EVERY_SECONDS = 0.2
LINGER_SECONDS = 0.02  # that the last rows of a video wait for the next video, to fill a batch
PACKAGE = __name__.partition(".")[0]
Receive = Callable[[float | None], Task | None]
Send = Callable[[Message], object]


class Stopped(Exception):
    """There is no more to do, or nothing to do it with."""


def serve(
    connection: Connection, parent: Connection, config: WorkerConfig, device: str | None, threads: int | None
) -> None:
    """Serve the process at the other end of `connection`.

    parent: a connection whose other end only that process has
    config, device, threads: what the work is made of, see `WorkerConfig.work`
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's goes to all; the first process decides
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)  # so that what is half written is removed
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    logging.getLogger().handlers = [LogForwarder(partial(_send, connection))]
    logging.getLogger().setLevel(logging.WARNING)  # what is logged when extractors are made, the first process logged
    with suppress(KeyboardInterrupt, EOFError):
        unblock_signals()
        try:
            work = config.work(threads)
            work.load(choose_device(device))
        except VideoFeaturesError as error:
            _send(connection, CannotStart(error))
            return
        except Exception as error:
            where = "" if device is None else f" on {device}"
            reason = f"a process{where} cannot start: {with_kind(error)}"
            _send(connection, CannotStart(VideoFeaturesError(reason)))
            return
        logging.getLogger().setLevel(logging.INFO)
        _send(connection, Ready())
        with suppress(Stopped):
            work_through(work, partial(_receive, connection), partial(_send, connection))


def work_through(work: Work, receive: Receive, send: Send) -> None:
    """Do tasks until `receive` or `send` raises, or a device fails: then Stopped is raised.

    receive: gives the next task; None where none comes within so many seconds; without a number it waits for one
    send: is sent `Progress`, `VideoRead` once the task given last is read, and for each task, in their order,
        `TimeSpent` and `TaskDone`
    """
    in_progress: deque[VideoInProgress] = deque()
    reported = 0.0

    def send_done() -> None:
        while in_progress and in_progress[0].is_ready:
            video = in_progress.popleft()
            outcomes = video.finish()
            send(TimeSpent(take_seconds()))
            send(TaskDone(outcomes, is_leaving=video.has_device_failed))
            if video.has_device_failed:
                raise Stopped

    def report(seconds: float, length: float | None) -> None:
        nonlocal reported
        send_done()
        if time.monotonic() - reported > PROGRESS_EVERY_SECONDS:
            reported = time.monotonic()
            send(Progress(seconds, length))

    try:
        while True:
            task = receive(LINGER_SECONDS if in_progress else None)
            if task is not None:
                in_progress.append(work.read(task, report))
                send(VideoRead())
            else:
                work.batches.run_all()
            send_done()
    finally:
        for video in in_progress:
            video.abandon()


def _leave_with(parent: Connection) -> None:
    """End when the first process does, even in the midst of a decoder that hangs."""
    with suppress(EOFError, OSError):
        parent.recv_bytes()
    os._exit(1)


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what is half written is being removed
    raise KeyboardInterrupt


def _receive(connection: Connection, timeout: float | None) -> Task | None:
    if timeout is not None and not connection.poll(timeout):
        return None
    task: Task = connection.recv()
    return task


def _send(connection: Connection, message: Message) -> None:
    """Raises KeyboardInterrupt where nobody listens any more."""
    try:
        connection.send(message)
    except OSError:
        raise KeyboardInterrupt from None


class LogForwarder(logging.Handler):
    """Sends what this package logs, and the warnings of others, to the process that schedules."""

    def __init__(self, send: Callable[[Logged], object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == PACKAGE or record.levelno >= logging.WARNING:
            self._send(Logged(record.levelno, record.getMessage()))
