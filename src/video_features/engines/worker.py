"""The loop of a worker, which is a thread or a process: take tasks and send outcomes until told to stop.

The next video is read while the last rows of earlier videos are computed.
"""

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
from ..runtimes.devices import choose_device, in_words
from ..runtimes.timing import take_seconds
from ..signals import unblock_signals
from ..tasks.videos import Task
from ..tasks.work import VideoInProgress, Work, WorkerConfig
from .messages import CannotStart, Logged, Message, Progress, Ready, TaskDone, TimeSpent, VideoRead

PROGRESS_EVERY_SECONDS = 0.2
LINGER_SECONDS = 0.02  # how long a video's last windows wait for the next video to fill their batch
PACKAGE = __name__.partition(".")[0]
Receive = Callable[[float | None], Task | None]
Send = Callable[[Message], object]


class Stopped(Exception):
    """The worker is told to stop, or its device failed."""


def serve(
    connection: Connection, parent: Connection, config: WorkerConfig, device: str | None, threads: int | None
) -> None:
    """Run a worker process that serves the parent process at the other end of `connection`.

    parent: a connection whose other end only the parent holds, so that it closes when the parent ends
    config, device, threads: what the work is built from, see `WorkerConfig.work`
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the parent decides
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)  # so that half-written files are removed
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    logging.getLogger().handlers = [LogForwarder(partial(_send, connection))]
    logging.getLogger().setLevel(logging.WARNING)  # the parent has already logged what building the extractors logs
    with suppress(KeyboardInterrupt, EOFError):
        unblock_signals()
        try:
            work = config.work(threads)
            logging.getLogger().setLevel(logging.INFO)
            work.load(chosen := choose_device(device))
        except VideoFeaturesError as error:
            _send(connection, CannotStart(error))
            return
        except Exception as error:
            where = "" if device is None else f" on {device}"
            reason = f"a worker process{where} cannot start: {with_kind(error)}"
            _send(connection, CannotStart(VideoFeaturesError(reason)))
            return
        _send(connection, Ready(in_words(chosen)))
        with suppress(Stopped):
            work_through(work, partial(_receive, connection), partial(_send, connection))


def work_through(work: Work, receive: Receive, send: Send) -> None:
    """Run tasks until `receive` or `send` raises. Raises Stopped if a device fails.

    receive: returns the next task, or None if no task comes within the given seconds; given None, it waits for a task
    send: called with `Progress`, with `VideoRead` once the latest task has been read, and for each task, in order, with
        `TimeSpent` and then `TaskDone`
    """
    in_progress: deque[VideoInProgress] = deque()
    reported = 0.0

    def send_done() -> None:
        while in_progress and in_progress[0].is_ready:
            video = in_progress.popleft()
            outcomes = video.finish()
            send(TimeSpent(take_seconds()))
            send(TaskDone(outcomes, is_exiting=video.has_device_failed))
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


def _exit_with_parent(parent: Connection) -> None:
    """Exit as soon as the parent process ends, even while a decoder hangs."""
    with suppress(EOFError, OSError):
        parent.recv_bytes()
    os._exit(1)


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
    raise KeyboardInterrupt


def _receive(connection: Connection, timeout: float | None) -> Task | None:
    if timeout is not None and not connection.poll(timeout):
        return None
    task: Task = connection.recv()
    return task


def _send(connection: Connection, message: Message) -> None:
    """Send a message to the parent. Raises KeyboardInterrupt if the parent has closed the connection."""
    try:
        connection.send(message)
    except OSError:
        raise KeyboardInterrupt from None


class LogForwarder(logging.Handler):
    """Forwards this package's log messages, and the warnings of other packages, to the scheduling process."""

    def __init__(self, send: Callable[[Logged], object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == PACKAGE or record.levelno >= logging.WARNING:
            self._send(Logged(record.levelno, record.getMessage()))
