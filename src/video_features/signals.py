"""Delays Ctrl-C (SIGINT) and SIGTERM during code that must not be interrupted, on systems that can block signals."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = {signal.SIGINT, signal.SIGTERM}


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block SIGINT and SIGTERM inside the `with` block, for this thread and for the processes that it starts.

    Signals that arrive meanwhile are delivered after the block. A started process keeps them blocked until it calls
    `unblock_signals`.
    """
    if not hasattr(signal, "pthread_sigmask"):
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
