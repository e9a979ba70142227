"""Measures how many seconds a process spends on each activity, summed over its threads."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

_seconds: defaultdict[str, float] = defaultdict(float)
_lock = threading.Lock()


@contextmanager
def timed(activity: str) -> Iterator[None]:
    """Add the duration of the `with` block to the total of an activity."""
    started = time.perf_counter()
    try:
        yield
    finally:
        elapsed = time.perf_counter() - started
        with _lock:
            _seconds[activity] += elapsed


def take_seconds() -> dict[str, float]:
    """Return the seconds spent on each activity since the last call, and reset the totals."""
    with _lock:
        totals = dict(_seconds)
        _seconds.clear()
    return totals
