"""Where a run's time goes: seconds by what they were spent on, over all threads of a process."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

_seconds: defaultdict[str, float] = defaultdict(float)
_adding = threading.Lock()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Add the time of the block to what is spent on this."""
    began = time.perf_counter()
    try:
        yield
    finally:
        passed = time.perf_counter() - began
        with _adding:
            _seconds[what] += passed


def take_seconds() -> dict[str, float]:
    """What was spent, by what it was spent on, since this was last asked."""
    with _adding:
        found = dict(_seconds)
        _seconds.clear()
    return found
