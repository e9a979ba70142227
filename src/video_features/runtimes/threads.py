"""Thread pools of a process: one for preprocessing and one for networks, in addition to the thread that decodes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

MAX_PASSES = 4  # concurrent passes; each needs memory for activations
MAX_PREPARERS = 16


class ThreadPools:
    """The thread pools for preprocessing and for networks. Each pool starts its tasks in the order of submission.

    A task may wait only for tasks that were submitted before it. Otherwise tasks that wait could occupy every thread,
    and the task that they wait for would never start.

    threads: number of cores to use in total
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.passes, _ = passes_at_once(threads, are_long=False)
        self.preparers = min(threads, MAX_PREPARERS)
        self.networks = _pool(self.passes, "network")
        self.preparing = _pool(self.preparers, "prepare")
        torch.set_num_threads(threads)  # restore the value for threads outside the pools


def passes_at_once(threads: int, *, are_long: bool) -> tuple[int, int]:
    """Return how many passes of a network run concurrently on `threads` cores, and how many cores each pass uses.

    are_long: True if passes are long and a video has only a few. Half as many passes then run at once, each on twice
        the cores: if the number of passes is odd, the last pass does not leave most cores idle
    """
    passes = min(threads, MAX_PASSES)
    if are_long:
        passes = max(1, passes // 2)
    return passes, max(1, threads // passes)


def cores() -> int:
    return torch.get_num_threads()


def set_cores(n: int) -> None:
    torch.set_num_threads(n)


_pools: ThreadPools | None = None
_pools_lock = threading.Lock()


def thread_pools() -> ThreadPools:
    """Return the thread pools of this process, created on the first call for the number of cores set in PyTorch."""
    global _pools
    with _pools_lock:
        if _pools is None:
            _pools = ThreadPools(torch.get_num_threads())
        return _pools


def _pool(size: int, name: str) -> ThreadPoolExecutor:
    """Create a pool in whose threads PyTorch uses one core each, as threads that use all cores slow each other down."""
    barrier = threading.Barrier(size)  # makes each thread of the pool run `initialise` once

    def initialise() -> None:
        torch.get_num_threads()  # the first call in a thread resets its number of cores to the global one
        torch.set_num_threads(1)
        barrier.wait()

    pool = ThreadPoolExecutor(size, name)
    for started in [pool.submit(initialise) for _ in range(size)]:
        started.result()
    return pool


@contextmanager
def all_threads(device: torch.device) -> Iterator[None]:
    """Let PyTorch use all cores in this thread within the block, if the device is a CPU."""
    before = torch.get_num_threads()
    threads = _pools.threads if _pools is not None else before
    if device.type != "cpu" or before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores_here() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
