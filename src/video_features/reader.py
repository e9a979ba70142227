"""What a process that reads videos does: take tasks and give outcomes, until there are no more or it has to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from .errors import VideoFeaturesError, in_one_line
from .signals import let_through
from .work import Recipe

PROGRESS_EVERY_SECONDS = 0.2


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
    logging.getLogger().handlers = [_Forwarded(connection)]
    logging.getLogger().setLevel(logging.WARNING)  # what is said when extractors are made, the first process said
    with suppress(KeyboardInterrupt, EOFError):
        let_through()
        try:
            work = recipe.work(device, threads)
        except VideoFeaturesError as error:
            _say(connection, "cannot start", error)
            return
        except Exception as error:
            where = "" if device is None else f" on {device}"
            why = f"{type(error).__name__}: {in_one_line(error)}"
            _say(connection, "cannot start", VideoFeaturesError(f"a process{where} cannot start: {why}"))
            return
        logging.getLogger().setLevel(logging.INFO)
        _say(connection, "ready")
        while True:
            outcomes = work.extract(connection.recv(), _Progress(connection))
            # A GPU that once was in error is of no more use to the process.
            is_leaving = any("CUDA error" in outcome.reason for outcome in outcomes)
            _say(connection, "outcomes", outcomes, is_leaving)
            if is_leaving:
                return


def _leave_with(parent: Connection) -> None:
    """End when the first process does, even in the midst of a decoder that hangs."""
    with suppress(EOFError, OSError):
        parent.recv_bytes()
    os._exit(1)


def _interrupt(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what is half written is being removed
    raise KeyboardInterrupt


def _say(connection: Connection, *words: Any) -> None:
    """Raises KeyboardInterrupt where nobody listens any more."""
    try:
        connection.send(words)
    except OSError:
        raise KeyboardInterrupt from None


class _Progress:
    """Tells how far a task is, now and then."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._told = 0.0

    def __call__(self, seconds: float, length: float | None) -> None:
        if time.monotonic() - self._told > PROGRESS_EVERY_SECONDS:
            self._told = time.monotonic()
            _say(self._connection, "progress", seconds, length)


class _Forwarded(logging.Handler):
    """Warnings, for the first process to tell."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(__package__) or record.levelno >= logging.WARNING:
            _say(self._connection, "log", record.levelno, "%s", record.getMessage())
