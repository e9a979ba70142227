"""Counts the memory of a process that waits between the steps: frames, preprocessed items, encodings.

The count has a limit. The thread that reads a video waits until its next frame fits, and finishes waiting batches early
if too much waits for the networks. Ordinary videos never reach the limit: it matters for pictures of many megapixels.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from ..settings import RunSettings
from ..signals import POLL_SECONDS, check_stop
from .threads import cores_here
from .timing import timed

SHARE_OF_MACHINE = 4  # by default, a quarter: the networks, their activations and other programs need the rest
DEFAULT_CPUS_PER_WORKER = 4.0  # with engine=ray, without a GPU
COLLECT_AFTER_WAITS = 20  # two seconds in which nothing was released
FALLBACK_BYTES = 8 * 10**9  # if the system does not tell how much memory it has


class Held:
    """Bytes that are counted until `release`, or until nothing refers to this object any more."""

    def __init__(self, freed: SimpleQueue[Held], size: int, *, is_frame: bool) -> None:
        self.size = size
        self.is_frame = is_frame
        self._freed: SimpleQueue[Held] | None = freed

    def release(self) -> None:
        if (freed := self._freed) is not None:
            self._freed = None
            freed.put(self)  # a queue, because Python may delete objects at any moment, even while the lock is held

    def __del__(self) -> None:
        self.release()


class Memory:
    """The memory of a process that waits between the steps.

    limit: bytes
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._freed: SimpleQueue[Held] = SimpleQueue()
        self._frames = 0  # bytes of frames that are not preprocessed yet
        self._others = 0

    @property
    def is_over(self) -> bool:
        """True if more is held than the limit."""
        with self._lock:
            self._count_freed()
            return self._frames + self._others > self.limit

    def hold(self, size: int) -> Held:
        """Count bytes that are in use already."""
        with self._lock:
            self._others += size
        return Held(self._freed, size, is_frame=False)

    def hold_frame(self, size: int, before_waiting: Callable[[], None]) -> Held:
        """Count the bytes of a frame that is to be preprocessed; waits until they fit.

        A frame never waits for anything but the preprocessing of other frames. What waits for the networks may need
        more frames to go on.

        before_waiting: called before a wait, to begin the preprocessing of every frame that this thread has collected
        """
        if not self._try_to_hold_frame(size):
            before_waiting()
            with timed("waiting for memory"):
                waited = 0
                while not self._try_to_hold_frame(size):
                    check_stop()
                    try:
                        freed = self._freed.get(timeout=POLL_SECONDS)
                    except Empty:
                        waited += 1
                        if waited % COLLECT_AFTER_WAITS == 0:
                            gc.collect()  # an error of an earlier video and its frames may refer to each other
                        continue
                    with self._lock:
                        self._subtract(freed)
        return Held(self._freed, size, is_frame=True)

    def _try_to_hold_frame(self, size: int) -> bool:
        with self._lock:
            self._count_freed()
            if self._frames and self._frames + self._others + size > self.limit:
                return False
            self._frames += size
            return True

    def _count_freed(self) -> None:
        with suppress(Empty):
            while True:
                self._subtract(self._freed.get_nowait())

    def _subtract(self, freed: Held) -> None:
        if freed.is_frame:
            self._frames -= freed.size
        else:
            self._others -= freed.size


_memory: Memory | None = None
_memory_lock = threading.Lock()


def memory() -> Memory:
    """Return the memory of this process, with the default limit of a single process until `limit_memory` is called."""
    global _memory
    with _memory_lock:
        if _memory is None:
            _memory = Memory(default_limit(1))
        return _memory


def limit_memory(run: RunSettings) -> None:
    """Set the limit of this process as the run asks for."""
    if run.engine == "ray":
        per_worker = run.cpus_per_worker or DEFAULT_CPUS_PER_WORKER
        processes = max(1, int(cores_here() / per_worker))
    else:
        processes = len(run.device_names)
    memory().limit = run.memory_limit or default_limit(processes)


def default_limit(processes: int) -> int:
    """Return the default limit in bytes of each of several processes of this machine."""
    return max(1, machine_memory() // SHARE_OF_MACHINE // processes)


def machine_memory(root: Path = Path("/")) -> int:
    """Return the memory in bytes that this process may use: the machine's, or less if its control group has less.

    root: the root of the file system; another one in tests
    """
    sizes = [*_group_limits(root)]
    with suppress(ValueError, OSError, AttributeError):  # AttributeError: Windows has no sysconf
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min((size for size in sizes if size > 0), default=FALLBACK_BYTES)


def _group_limits(root: Path) -> list[int]:
    """Return the limits of the control groups (Linux, versions 1 and 2) that this process is in."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    limits = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        below = Path(group.lstrip("/"))
        for parent in (below, *below.parents):  # in a container the group may be the root that the container sees
            with suppress(OSError, ValueError):  # ValueError: "max", for no limit
                limits.append(int((folder / parent / name).read_text(encoding="ascii")))
    return limits


def in_gigabytes(size: float) -> str:
    """Return a number of bytes as text, as `memory_limit` accepts it: `1.5GB`."""
    return f"{size / 1e9:.3g}GB" if size >= 1e8 else f"{size / 1e6:.3g}MB"
