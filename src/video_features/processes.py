"""Videos in processes of their own, one process a device: a decoder that crashes or hangs costs one video.

Nothing here knows of outputs or lists: tasks go in, outcomes come out.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

from .child import Child
from .errors import SettingsError, VideoFeaturesError, printable
from .features import Outcome
from .lists import Task
from .places import InThisProcess, Place, Watch
from .runtimes.devices import choose_device
from .work import Recipe, Work, failed

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 10.0  # in which a process that is told to stop does so, or is killed
TRIES = 2  # of a video: a process may die of what is not its fault
STARTS = 3  # of a process, before it is given up with the run


class InProcesses:
    """Does each task in a process of its own kind, and watches over these. See `Place`.

    recipe: what each makes for itself when it starts
    devices: a process on each
    most_under_way: tasks of a process, of which it reads one, and others wait for their last rows
    on_death: told of the tasks that a process did not live to end, and may have left half done
    time_limit, stall_limit: seconds that a task may take, and without a word from it
    threads: of a process, where there is one; by default as many as there are cores
    """

    def __init__(
        self,
        recipe: Recipe,
        devices: Sequence[str | None],
        watch: Watch,
        on_death: Callable[[Collection[Task]], object],
        *,
        most_under_way: int,
        time_limit: float | None,
        stall_limit: float,
        threads: int | None = None,
    ) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise SystemExit(1)  # it imports a script without a guard, as its parent will tell
        if str(getattr(sys.modules["__main__"], "__file__", "")).endswith("<stdin>"):
            raise SettingsError(
                "from a script on standard input Python starts no processes: save it as a file, or leave devices, "
                "isolate and time_limit_seconds away"
            )
        self._recipe = recipe
        self._watch = watch
        self._on_death = on_death
        self._most_under_way = most_under_way
        self._time_limit = time_limit
        self._stall_limit = stall_limit
        self._threads = max(1, cores_here() // len(devices)) if len(devices) > 1 else threads
        self._processes = [Child(device, f"{k + 1}: {device or 'default'}") for k, device in enumerate(devices)]
        self._tries: dict[int, int] = {}  # by a task's identity
        self._waiting: deque[Task] = deque()  # for a process, as theirs could not start or ended
        self.keeps_order = len(devices) == 1
        self._over: list[tuple[Task, list[Outcome]]] = []

    def has_room(self) -> bool:
        return not self._waiting and any(self._has_room(process) for process in self._processes)

    def is_idle(self) -> bool:
        return not self._over and not self._waiting and not any(process.tasks for process in self._processes)

    def begin(self, task: Task) -> None:
        free = (process for process in self._processes if self._has_room(process))
        self._give(min(free, key=lambda process: len(process.tasks)), task)

    def ended(self, timeout: float | None = None) -> Iterator[tuple[Task, list[Outcome]]]:
        """Where one was read, and has not ended, there is room for another, so that it does not wait for this one."""
        until = None if timeout is None else time.monotonic() + timeout
        had_room = self.has_room()
        while not self._over and not self.is_idle():
            self._listen(0.5 if timeout is None else min(0.5, timeout))
            self._give_up_what_takes_too_long()
            for process in self._processes:
                if self._waiting and self._has_room(process):
                    self._give(process, self._waiting.popleft())
            if (until is not None and time.monotonic() >= until) or (self.has_room() and not had_room):
                break
        over, self._over = self._over, []
        yield from over

    def stop(self) -> None:
        running = [process for process in self._processes if process.is_started]
        for process in running:
            process.ask_to_stop()
        until = time.monotonic() + SHUTDOWN_SECONDS
        for process in running:
            process.wait_for_end(max(0.0, until - time.monotonic()))
            self._kill(process)

    def _has_room(self, process: Child) -> bool:
        return process.reading is None and len(process.tasks) < self._most_under_way

    def _give(self, process: Child, task: Task) -> None:
        if process.is_started and not process.is_alive:
            self._kill(process)
        if not process.is_started:
            process.start(self._recipe, self._threads)
        process.give(task)

    def _listen(self, timeout: float) -> None:
        """Hear all that they have to say, and wait for it for so many seconds."""
        by_connection: dict[Any, Child] = {process.connection: process for process in self._processes if process.tasks}
        for connection in wait(list(by_connection), timeout):
            process = by_connection[connection]
            try:
                while process.connection is connection and process.tasks and connection.poll():
                    self._hear(process, *connection.recv())
            except (EOFError, OSError):
                self._bury(process)

    def _hear(self, process: Child, kind: str, *said: Any) -> None:
        process.heard = time.monotonic()
        if kind == "ready":
            process.is_ready, process.began, process.failed_starts = True, process.heard, 0
        elif kind == "progress":
            self._watch.progress(process.name, process.suspect, *said)
        elif kind == "read":
            process.reading = None
            self._watch.idle(process.name)
        elif kind == "spent":
            self._watch.spent(*said)
        elif kind == "log":
            log.log(*said)
        elif kind == "outcomes":
            outcomes, is_leaving = said
            self._over.append((process.tasks.popleft(), outcomes))
            if is_leaving:
                process.wait_for_end(SHUTDOWN_SECONDS)
                self._kill(process)
                self._waiting.extend(self._left(process))
        else:
            self._retire(process, said[0])

    def _left(self, process: Child) -> deque[Task]:
        """The tasks that a process does not do any more."""
        left, process.tasks, process.reading = process.tasks, deque(), None
        self._watch.idle(process.name)
        return left

    def _bury(self, process: Child) -> None:
        """A process died: its tasks are tried once more, and if it dies again of the one that it reads, that failed."""
        task, was_ready = process.suspect, process.is_ready
        process.wait_for_end(SHUTDOWN_SECONDS)  # for the code that it ends with
        ended = self._kill(process)
        if not was_ready:
            process.failed_starts += 1
            if process.failed_starts == STARTS:
                error = VideoFeaturesError(
                    f"a process to read videos in ended {STARTS} times before it could begin ({ended}). In a script, "
                    "what calls extract must stand below `if __name__ == '__main__':`"
                )
                self._retire(process, error)
                return
        else:
            self._tries[id(task)] = self._tries.get(id(task), 0) + 1
        if self._tries.get(id(task), 0) < TRIES:
            log.warning(
                "%s: the process that read it ended (%s); it is tried once more", printable(task.location), ended
            )
            self._put_back(process, task)
        else:
            self._fail(process, VideoFeaturesError(f"the process that read it ended, {TRIES} times ({ended})"))

    def _retire(self, process: Child, error: VideoFeaturesError) -> None:
        """Go on without a process that cannot start. Raises its error where it was the last one."""
        if process.is_started:
            self._kill(process)
        self._waiting.extend(self._left(process))
        self._processes.remove(process)
        if not self._processes:
            raise error
        log.warning("%s: %s; the others go on without it", process.name, error)

    def _give_up_what_takes_too_long(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            if not process.tasks or not process.is_ready:
                continue
            if wait([process.connection], 0):  # it has said more while another's end was waited for
                continue
            if self._time_limit is not None and process.reading is not None and now - process.began > self._time_limit:
                self._kill(process)
                self._fail(process, VideoFeaturesError(f"not done within time_limit_seconds={self._time_limit:g}"))
            elif now - process.heard > self._stall_limit:
                self._kill(process)
                reason = (
                    f"no new frame within stall_limit_seconds={self._stall_limit:g}: its decoder hangs, or the network"
                )
                self._fail(process, VideoFeaturesError(reason))

    def _fail(self, process: Child, error: Exception) -> None:
        """The task that is at fault failed, and the others of the process are to be done anew."""
        task = process.suspect
        self._over.append((task, [failed(task, feature, error) for feature in self._recipe.features]))
        process.tasks.remove(task)
        self._waiting.extend(self._left(process))

    def _put_back(self, process: Child, first: Task) -> None:
        """Its tasks are to be done anew, first of all this one."""
        process.tasks.remove(first)
        self._waiting.extend([first, *self._left(process)])

    def _kill(self, process: Child) -> str:
        """End a process, which may have left its tasks half done; how it ended."""
        ended = process.kill()
        self._on_death(process.tasks)
        return ended


def place_here(recipe: Recipe, work: Work, watch: Watch, *, threads: int | None = None) -> Place:
    """Where this process has tasks done: in a thread of its own, or in other processes, as the run's settings say.

    work: what the recipe makes, here; it is not loaded yet
    threads: that are to be used on a CPU; by default all
    """
    run = recipe.run
    if not run.in_processes:
        return InThisProcess(work, choose_device(run.device), watch, recipe.most_under_way)
    return InProcesses(
        recipe,
        run.device_names,
        watch,
        on_death=work.clear,
        most_under_way=recipe.most_under_way,
        time_limit=run.time_limit_seconds,
        stall_limit=run.stall_limit_seconds,
        threads=threads,
    )


def cores_here() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
