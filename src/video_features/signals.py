"""How Ctrl-C (SIGINT), SIGTERM and SIGHUP end a process or a thread, and when they must wait."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

SIGNALS = {signal.SIGINT, signal.SIGTERM}
INTERRUPTED = 130  # the exit status
POLL_SECONDS = 0.1  # how long a thread waits before it checks again whether to stop


def exit_when_interrupted() -> None:
    """Let a command exit at once when it is interrupted, with one line and the status 130.

    For the time before the work begins, when there is nothing to clean up. An exception would instead pass through
    whatever is being imported: some packages abort the process, or hide the exception.
    """
    _handle_signals(_exit)


def raise_when_interrupted() -> None:
    """End `exit_when_interrupted`: a signal raises KeyboardInterrupt, so that no half-written files are left."""
    if signal.getsignal(signal.SIGTERM) is _exit:
        _handle_signals(signal.default_int_handler)


def _handle_signals(handler: Callable[..., object]) -> None:
    signal.signal(signal.SIGTERM, handler)
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        # `nohup` ignores SIGHUP, and a shell's script ignores SIGINT for its background jobs.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _exit(*_: object) -> None:
    line = '{"event": "interrupted"}\n' if "--log-json" in sys.argv else "interrupted\n"
    os.write(2, line.encode())  # standard error; `print` may be in use by the code that was interrupted
    os._exit(INTERRUPTED)


@contextmanager
def signals_blocked(*, always: bool = False) -> Iterator[None]:
    """Block SIGINT and SIGTERM inside the `with` block, for this thread and for the processes that it starts.

    Signals that arrive meanwhile are delivered after the block. A started process keeps them blocked until it calls
    `unblock_signals`. Does nothing on systems that cannot block signals, and after `exit_when_interrupted`.

    always: block them also after `exit_when_interrupted`, because a process is started
    """
    exits_at_once = signal.getsignal(signal.SIGTERM) is _exit and not always
    if not hasattr(signal, "pthread_sigmask") or exits_at_once:
        yield
        return
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def unblock_signals() -> None:
    """Unblock the signals in a process that was started inside `signals_blocked` and inherited the signal mask."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class _ThreadState(threading.local):
    is_stopping: Callable[[], bool] | None = None


_this_thread = _ThreadState()


def stop_when(is_stopping: Callable[[], bool]) -> None:
    """Stop this thread once `is_stopping` returns True: `check_stop` and `result_of` then raise in it."""
    _this_thread.is_stopping = is_stopping


def check_stop() -> None:
    """Raise KeyboardInterrupt if this thread is told to stop. Signals reach only the main thread of a process."""
    if _this_thread.is_stopping is not None and _this_thread.is_stopping():
        raise KeyboardInterrupt


def result_of(future: Future[T]) -> T:
    """Return the result of a future. Raises KeyboardInterrupt if this thread is told to stop while it waits."""
    check_stop()
    if _this_thread.is_stopping is not None:
        while not future.done() and not wait([future], POLL_SECONDS).done:
            check_stop()
    return future.result()
