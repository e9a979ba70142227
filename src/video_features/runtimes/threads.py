"""The threads of a process beside the one that reads: some prepare what networks are given, some run networks."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

MOST_PASSES = 4  # at once: each takes memory for its activations
MOST_PREPARING = 16


class ThreadPools:
    """The threads. What is given to either pool begins in the order in which it was given.

    Work may wait for other work only where that was given before it, so that it never waits for itself.

    threads: how many cores there are for it all
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.passes, _ = passes_at_once(threads, are_long=False)
        self.preparers = min(threads, MOST_PREPARING)
        self.networks = _pool(self.passes, "network")
        self.preparing = _pool(self.preparers, "prepare")
        torch.set_num_threads(threads)  # as it was, for threads that are none of ours


def passes_at_once(threads: int, *, are_long: bool) -> tuple[int, int]:
    """How many passes of a network are made at once in so many threads, and how many of these each may use.

    are_long: whether each takes long, and a video has but a few: then half as many are made, and each has twice the
        threads, so that the last of an odd number does not leave most cores idle
    """
    passes = min(threads, MOST_PASSES)
    if are_long:
        passes = max(1, passes // 2)
    return passes, max(1, threads // passes)


_made: ThreadPools | None = None
_making = threading.Lock()


def thread_pools() -> ThreadPools:
    """This process's, which are started when they are first needed, for as many cores as PyTorch is to use then."""
    global _made
    with _making:
        if _made is None:
            _made = ThreadPools(torch.get_num_threads())
        return _made


def _pool(size: int, name: str) -> ThreadPoolExecutor:
    """Threads in each of which PyTorch uses one core: several that use all are in each other's way."""
    all_there = threading.Barrier(size)

    def begin() -> None:
        torch.get_num_threads()  # the first call sets a thread's own number to what is set for all
        torch.set_num_threads(1)
        all_there.wait()

    pool = ThreadPoolExecutor(size, name)
    for started in [pool.submit(begin) for _ in range(size)]:
        started.result()
    return pool


@contextmanager
def all_threads(device: torch.device) -> Iterator[None]:
    """PyTorch uses all cores for what this thread does on a CPU meanwhile."""
    before = torch.get_num_threads()
    threads = _made.threads if _made is not None else before
    if device.type != "cpu" or before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores_here() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
