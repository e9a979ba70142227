"""How many cores to use, and the thread pools of a process: one for preprocessing and one for networks.

A third thread decodes. PyTorch is told about the cores if it is imported, but is not imported for that.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

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
        _tell_torch(threads)  # restore the value for threads outside the pools


def passes_at_once(threads: int, *, are_long: bool) -> tuple[int, int]:
    """Return how many passes of a network run concurrently on `threads` cores, and how many cores each pass uses.

    are_long: True if passes are long and a video has only a few. Half as many passes then run at once, each on twice
        the cores: if the number of passes is odd, the last pass does not leave most cores idle
    """
    passes = min(threads, MAX_PASSES)
    if are_long:
        passes = max(1, passes // 2)
    return passes, max(1, threads // passes)


_pools: ThreadPools | None = None
_pools_lock = threading.Lock()


def thread_pools() -> ThreadPools:
    """Return the thread pools of this process, created on the first call for the number of cores to use."""
    global _pools
    with _pools_lock:
        if _pools is None:
            _pools = ThreadPools(cores())
        return _pools


def _pool(size: int, name: str) -> ThreadPoolExecutor:
    """Create a pool in whose threads PyTorch uses one core each, as threads that use all cores slow each other down."""
    pool = ThreadPoolExecutor(size, name)
    if (torch := _torch()) is None:
        return pool
    barrier = threading.Barrier(size)  # makes each thread of the pool run `initialise` once

    def initialise() -> None:
        torch.get_num_threads()  # the first call in a thread resets its number of cores to the global one
        torch.set_num_threads(1)
        barrier.wait()

    for started in [pool.submit(initialise) for _ in range(size)]:
        started.result()
    return pool


_cores: int | None = None


def set_cores(number: int) -> None:
    """Set the number of cores that this process uses, before its thread pools are created."""
    global _cores
    _cores = number
    _tell_torch(number)


def cores() -> int:
    """Return the number of cores that this process uses: as many as PyTorch would use in it, found on the first call.

    These are the physical cores that the process may use, or fewer if OMP_NUM_THREADS asks for fewer. A number that was
    set in PyTorch, by a program that uses this package, counts too.
    """
    global _cores
    if _cores is None:
        torch = _torch()
        _cores = default_cores() if torch is None else int(torch.get_num_threads())
    return _cores


def _tell_torch(threads: int) -> None:
    """Set the number of cores that PyTorch uses in this thread, if PyTorch is imported."""
    if (torch := _torch()) is not None:
        torch.set_num_threads(threads)


def _torch() -> Any | None:
    """Return PyTorch if it is imported; None also while another thread has just begun to import it."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "set_num_threads") else None


def default_cores() -> int:
    """Return the number of threads that PyTorch starts with: see `cores`."""
    found = _physical_cores() or os.cpu_count() or 1
    for name in ("MKL_NUM_THREADS", "OMP_NUM_THREADS"):  # MKL's comes first, as in PyTorch
        first = os.environ.get(name, "").partition(",")[0].strip()  # OpenMP takes a list: one number for each level
        if first.isdecimal() and int(first) > 0:
            return min(int(first), found)
    return found


def _physical_cores(root: Path = Path("/")) -> int | None:
    """Return the number of physical cores that this process may use, or None if the system does not tell.

    root: the root of the file system; another one in tests
    """
    if sys.platform == "linux":
        folder = root / "sys/devices/system/cpu"
        with suppress(OSError):
            files = [folder / f"cpu{cpu}/topology/thread_siblings_list" for cpu in os.sched_getaffinity(0)]
            return len({file.read_text(encoding="ascii") for file in files})
        return len(os.sched_getaffinity(0))
    if sys.platform == "darwin":
        # Apple's processors have fast cores, which are the level 0, and slow cores.
        return _sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu")
    return None


def _sysctl(name: str) -> int | None:
    import subprocess

    with suppress(OSError, ValueError):
        return int(subprocess.run(["sysctl", "-n", name], capture_output=True, check=False).stdout)
    return None


def cores_here() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
