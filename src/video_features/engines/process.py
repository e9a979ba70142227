"""Run tasks in worker processes, one per device: a decoder that crashes or hangs costs one video."""

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
from .forkserver import start_server
from .messages import CannotStart, Logged, Message, Progress, Ready, TaskDone, TimeSpent, VideoRead
from .pool import OnWorkerLost, WorkerPool

log = logging.getLogger(__name__)

MAX_STARTS = 3  # failed attempts to start a process before the run continues without it
REMEMBERED_MESSAGES = 100  # logged by processes; of the same message, only the first is shown


class ProcessExecutor(WorkerPool):
    """Runs tasks in worker processes and supervises the processes. See `Executor`.

    devices: one process per device
    max_in_progress: how many tasks a process may have; it reads one while the others wait for their last rows
    time_limit: seconds that a task may take; None: no limit
    stall_limit: seconds that a process may take between two messages
    threads: CPU threads of a single process, None: all; several processes share the cores evenly
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
        max_in_progress: int,
        time_limit: float | None,
        stall_limit: float,
        threads: int | None = None,
    ) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise SystemExit(1)  # a child imports a script without a __main__ guard; its parent reports that
        if str(getattr(sys.modules["__main__"], "__file__", "")).endswith("<stdin>"):
            raise SettingsError(
                "Python cannot start processes from a script on standard input: save the script as a file, or do not "
                "use devices, isolate and time_limit_seconds"
            )
        super().__init__(config, observer, on_worker_lost)
        try:
            start_server(on_cpu=config.run.device == "cpu")
        except OSError as error:
            raise SettingsError(
                f"worker processes cannot be started ({error.strerror or error}): the path of the folder for temporary "
                "files may be too long for a socket, so set TMPDIR to a shorter one"
            ) from error
        self._max_in_progress = max_in_progress
        self._time_limit = time_limit
        self._stall_limit = stall_limit
        self._threads = max(1, cores_here() // len(devices)) if len(devices) > 1 else threads
        self._processes = [WorkerProcess(device, f"{k + 1}: {device or 'default'}") for k, device in enumerate(devices)]
        # What processes have logged lately: one line is enough if several load the same network.
        self._logged: deque[str] = deque(maxlen=REMEMBERED_MESSAGES)
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
        deadline = time.monotonic() + SHUTDOWN_SECONDS
        for process in running:
            process.wait_for_end(max(0.0, deadline - time.monotonic()))
            self._kill(process)

    def _has_room(self, process: WorkerProcess) -> bool:
        return process.reading is None and len(process.tasks) < self._max_in_progress

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
        process.last_message_at = time.monotonic()
        match message:
            case Ready():
                process.is_ready, process.reading_since, process.failed_starts = True, process.last_message_at, 0
                self._observer.ready(process.name, message.device)
            case Progress():
                self._observer.progress(process.name, process.suspect, message.seconds, message.length)
            case VideoRead():
                process.reading = None
                self._observer.idle(process.name)
            case TimeSpent():
                self._observer.timed(message.seconds)
            case Logged() if message.level > logging.INFO or message.message not in self._logged:
                self._logged.append(message.message)
                log.log(message.level, "%s", message.message)
            case TaskDone():
                self._complete(process.tasks.popleft(), message.outcomes)
                if message.is_exiting:
                    process.wait_for_end(SHUTDOWN_SECONDS)
                    how_it_ended = self._kill(process)
                    self._waiting.extend(self._worker_ended(self._take_tasks(process), [], how_it_ended))
            case CannotStart():
                self._give_up_process(process, message.error)

    def _take_tasks(self, process: WorkerProcess) -> deque[Task]:
        """Take all tasks away from a process that will not finish them."""
        tasks, process.tasks, process.reading = process.tasks, deque(), None
        self._observer.idle(process.name)
        return tasks

    def _handle_exit(self, process: WorkerProcess) -> None:
        """Retry the tasks of a process that died. The task that it was reading is suspected."""
        suspect, was_ready = process.suspect, process.is_ready
        process.wait_for_end(SHUTDOWN_SECONDS)  # so that its exit code is known
        how_it_ended = self._kill(process)
        if not was_ready:
            process.failed_starts += 1
            if process.failed_starts == MAX_STARTS:
                error = VideoFeaturesError(
                    f"a worker process died {MAX_STARTS} times while starting ({how_it_ended}). In a script, put the "
                    "code that calls extract below `if __name__ == '__main__':`"
                )
                self._give_up_process(process, error)
                return
        others = [task for task in self._take_tasks(process) if task is not suspect]
        retried = self._worker_ended([suspect, *others], [suspect] if was_ready else [], how_it_ended)
        if suspect in retried:
            log.warning(
                "%s: the process reading it died (%s); retrying once", printable(suspect.location), how_it_ended
            )
        self._waiting.extend(retried)

    def _give_up_process(self, process: WorkerProcess, error: VideoFeaturesError) -> None:
        """Continue without a process that cannot start. Raises `error` if it was the last process."""
        if process.is_started:
            self._kill(process)
        self._waiting.extend(self._worker_ended(self._take_tasks(process), [], str(error)))
        self._processes.remove(process)
        if not self._processes:
            raise error
        log.warning("%s: %s; continuing with the other processes", process.name, error)

    def _check_workers(self) -> None:
        now = time.monotonic()
        for process in self._processes:
            if not process.tasks or not process.is_ready:
                continue
            if wait([process.connection], 0):  # not stalled: its messages arrived while another process was being ended
                continue
            reading_seconds = now - process.reading_since if process.reading is not None else 0.0
            if self._time_limit is not None and reading_seconds > self._time_limit:
                self._kill_for(process, f"not done within time_limit_seconds={self._time_limit:g}")
            elif now - process.last_message_at > self._stall_limit:
                self._kill_for(
                    process,
                    f"no new frame within stall_limit_seconds={self._stall_limit:g}: the decoder or the network hangs",
                )

    def _kill_for(self, process: WorkerProcess, reason: str) -> None:
        """Kill a process that takes too long over a task. That task fails; the process's other tasks start anew."""
        suspect = process.suspect
        self._kill(process)
        self._fail(suspect, VideoFeaturesError(reason))
        others = [task for task in self._take_tasks(process) if task is not suspect]
        self._waiting.extend(self._worker_ended(others, [], reason))

    def _kill(self, process: WorkerProcess) -> str:
        """End a process, remove what it left half written, and return how it ended, in words."""
        how_it_ended = process.kill()
        self._on_worker_lost(process.tasks)
        return how_it_ended
