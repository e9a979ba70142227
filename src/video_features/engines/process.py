"""Videos in processes of their own, one process a device: a decoder that crashes or hangs costs one video."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Any

from ..errors import SettingsError, VideoFeaturesError, printable
from ..runtimes.threads import cores_here
from ..tasks.videos import Task
from ..tasks.work import WorkerConfig
from .base import SHUTDOWN_SECONDS, Observer
from .child import WorkerProcess
from .messages import CannotStart, Logged, Message, Progress, Ready, TaskDone, TimeSpent, VideoRead
from .pool import OnWorkerLost, WorkerPool

log = logging.getLogger(__name__)

STARTS = 3  # of a process, before the run goes on without it


class ProcessExecutor(WorkerPool):
    """Runs tasks in processes, and watches over these. See `Executor`.

    devices: a process on each
    most_in_progress: tasks of a process, of which it reads one, and others wait for their last rows
    time_limit, stall_limit: seconds that a task may take, and without a message from its process
    threads: of a process, where there is one; by default as many as there are cores
    """

    worker_name = "process"
    tries = 2

    def __init__(
        self,
        config: WorkerConfig,
        devices: Sequence[str | None],
        observer: Observer,
        on_worker_lost: OnWorkerLost,
        *,
        most_in_progress: int,
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
        super().__init__(config, observer, on_worker_lost)
        self._most_in_progress = most_in_progress
        self._time_limit = time_limit
        self._stall_limit = stall_limit
        self._threads = max(1, cores_here() // len(devices)) if len(devices) > 1 else threads
        self._processes = [WorkerProcess(device, f"{k + 1}: {device or 'default'}") for k, device in enumerate(devices)]
        self.keeps_order = len(devices) == 1

    def has_room(self) -> bool:
        return not self._waiting and any(self._has_room(process) for process in self._processes)

    def is_idle(self) -> bool:
        return not self._completed and not self._waiting and not any(process.tasks for process in self._processes)

    def submit(self, task: Task) -> None:
        free = (process for process in self._processes if self._has_room(process))
        self._give(min(free, key=lambda process: len(process.tasks)), task)

    def shutdown(self) -> None:
        running = [process for process in self._processes if process.is_started]
        for process in running:
            process.ask_to_stop()
        until = time.monotonic() + SHUTDOWN_SECONDS
        for process in running:
            process.wait_for_end(max(0.0, until - time.monotonic()))
            self._kill(process)

    def _has_room(self, process: WorkerProcess) -> bool:
        return process.reading is None and len(process.tasks) < self._most_in_progress

    def _give(self, process: WorkerProcess, task: Task) -> None:
        if process.is_started and not process.is_alive:
            self._kill(process)
        if not process.is_started:
            process.start(self._config, self._threads)
        process.give(task)

    def _assign(self) -> None:
        for process in self._processes:
            if self._waiting and self._has_room(process):
                self._give(process, self._waiting.popleft())

    def _listen(self, seconds: float) -> None:
        by_connection: dict[Any, WorkerProcess] = {
            process.connection: process for process in self._processes if process.tasks
        }
        for connection in wait(list(by_connection), seconds):
            process = by_connection[connection]
            try:
                while process.connection is connection and process.tasks and connection.poll():
                    self._handle(process, connection.recv())
            except (EOFError, OSError):
                self._handle_exit(process)

    def _handle(self, process: WorkerProcess, message: Message) -> None:
        process.heard = time.monotonic()
        match message:
            case Ready():
                process.is_ready, process.began, process.failed_starts = True, process.heard, 0
            case Progress():
                self._observer.progress(process.name, process.suspect, message.seconds, message.length)
            case VideoRead():
                process.reading = None
                self._observer.idle(process.name)
            case TimeSpent():
                self._observer.timed(message.seconds)
            case Logged():
                log.log(message.level, "%s", message.message)
            case TaskDone():
                self._complete(process.tasks.popleft(), message.outcomes)
                if message.is_leaving:
                    process.wait_for_end(SHUTDOWN_SECONDS)
                    self._kill(process)
                    self._waiting.extend(self._take_tasks(process))
            case CannotStart():
                self._give_up_process(process, message.error)

    def _take_tasks(self, process: WorkerProcess) -> deque[Task]:
        """The tasks of a process, which does them no more."""
        tasks, process.tasks, process.reading = process.tasks, deque(), None
        self._observer.idle(process.name)
        return tasks

    def _handle_exit(self, process: WorkerProcess) -> None:
        """Try the tasks of a process that died once more; the one that it read is suspected."""
        suspect, was_ready = process.suspect, process.is_ready
        process.wait_for_end(SHUTDOWN_SECONDS)  # for its exit code
        ended = self._kill(process)
        if not was_ready:
            process.failed_starts += 1
            if process.failed_starts == STARTS:
                error = VideoFeaturesError(
                    f"a process to read videos in ended {STARTS} times before it could begin ({ended}). In a script, "
                    "what calls extract must stand below `if __name__ == '__main__':`"
                )
                self._give_up_process(process, error)
                return
        others = [task for task in self._take_tasks(process) if task is not suspect]
        again = self._worker_ended([suspect, *others], [suspect] if was_ready else [], ended)
        if suspect in again:
            log.warning(
                "%s: the process that read it ended (%s); it is tried once more", printable(suspect.location), ended
            )
        self._waiting.extend(again)

    def _give_up_process(self, process: WorkerProcess, error: VideoFeaturesError) -> None:
        """Go on without a process that cannot start. Raises its error where it was the last one."""
        if process.is_started:
            self._kill(process)
        self._waiting.extend(self._take_tasks(process))
        self._processes.remove(process)
        if not self._processes:
            raise error
        log.warning("%s: %s; the others go on without it", process.name, error)

    def _check_workers(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            if not process.tasks or not process.is_ready:
                continue
            if wait([process.connection], 0):  # it has sent more while another's end was waited for
                continue
            if self._time_limit is not None and process.reading is not None and now - process.began > self._time_limit:
                self._kill_for(process, f"not done within time_limit_seconds={self._time_limit:g}")
            elif now - process.heard > self._stall_limit:
                self._kill_for(
                    process,
                    f"no new frame within stall_limit_seconds={self._stall_limit:g}: its decoder hangs, or the network",
                )

    def _kill_for(self, process: WorkerProcess, reason: str) -> None:
        """Kill a process that takes too long over a task: this one has failed, the others are done anew."""
        suspect = process.suspect
        self._kill(process)
        self._fail(suspect, VideoFeaturesError(reason))
        self._waiting.extend(task for task in self._take_tasks(process) if task is not suspect)

    def _kill(self, process: WorkerProcess) -> str:
        """End a process, which may have left its tasks half done; how it ended."""
        ended = process.kill()
        self._on_worker_lost(process.tasks)
        return ended
