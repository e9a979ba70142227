"""What reads videos does, a thread or a process: take tasks and give outcomes, until there are no more or it has to
stop. A video is read while the last rows of those before it are computed."""

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
from typing import Any

from .errors import VideoFeaturesError, with_kind
from .lists import Task
from .profile import take_seconds
from .runtimes.devices import choose_device
from .signals import let_through
from .work import Reading, Recipe, Work

PROGRESS_EVERY_SECONDS = 0.2
LINGER_SECONDS = 0.02  # that the last rows of a video wait for the next video, to fill a batch


class Stopped(Exception):
    """There is no more to do, or nothing to do it with."""


def serve(connection: Connection, parent: Connection, recipe: Recipe, device: str | None, threads: int | None) -> None:
    """Serve the process at the other end of `connection`.

    parent: a connection of which that process alone has the other end
    recipe, device, threads: what the work is made of, see `Recipe.work`
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's goes to all; the first process decides
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)  # so that what is half written is removed
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    logging.getLogger().handlers = [Forwarded(partial(_say, connection, "log"))]
    logging.getLogger().setLevel(logging.WARNING)  # what is said when extractors are made, the first process said
    with suppress(KeyboardInterrupt, EOFError):
        let_through()
        try:
            work = recipe.work(threads)
            work.load(choose_device(device))
        except VideoFeaturesError as error:
            _say(connection, "cannot start", error)
            return
        except Exception as error:
            where = "" if device is None else f" on {device}"
            why = with_kind(error)
            _say(connection, "cannot start", VideoFeaturesError(f"a process{where} cannot start: {why}"))
            return
        logging.getLogger().setLevel(logging.INFO)
        _say(connection, "ready")
        with suppress(Stopped):
            work_through(work, partial(_receive, connection), partial(_say, connection))


def work_through(work: Work, receive: Callable[[float | None], Task | None], say: Callable[..., object]) -> None:
    """Do tasks until `receive` or `say` raises, or a GPU fails: then Stopped is raised.

    receive: gives the next task; None where none comes within so many seconds; None of these: waits for it
    say: is told `progress` with seconds done and of how many, `read` once the task given last is read, and for each
        task, in their order, `spent` with what its time was spent on, and `outcomes`
    """
    under_way: deque[Reading] = deque()
    told = 0.0

    def tell_ended() -> None:
        while under_way and under_way[0].is_ready:
            outcomes = under_way.popleft().outcomes()
            say("spent", take_seconds())
            # A GPU that once was in error is of no more use to the process.
            is_leaving = any("CUDA error" in outcome.reason for outcome in outcomes)
            say("outcomes", outcomes, is_leaving)
            if is_leaving:
                raise Stopped

    def show(seconds: float, length: float | None) -> None:
        nonlocal told
        tell_ended()
        if time.monotonic() - told > PROGRESS_EVERY_SECONDS:
            told = time.monotonic()
            say("progress", seconds, length)

    try:
        while True:
            task = receive(LINGER_SECONDS if under_way else None)
            if task is not None:
                under_way.append(work.read(task, show))
                say("read")
            else:
                work.batches.run_all()
            tell_ended()
    finally:
        for reading in under_way:
            reading.give_up()


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


def _say(connection: Connection, *words: Any) -> None:
    """Raises KeyboardInterrupt where nobody listens any more."""
    try:
        connection.send(words)
    except OSError:
        raise KeyboardInterrupt from None


class Forwarded(logging.Handler):
    """Warnings, for the first process to tell.

    say: is told the level and the message
    """

    def __init__(self, say: Callable[[int, str], object]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(__package__) or record.levelno >= logging.WARNING:
            self._say(record.levelno, record.getMessage())
