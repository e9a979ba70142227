"""A worker process as its parent sees it: start it, send it tasks, end it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from typing import Any

from ..signals import signals_blocked
from ..tasks.videos import Task
from ..tasks.work import WorkerConfig
from .forkserver import start_method
from .worker import serve


@dataclass
class WorkerProcess:
    """A worker process. It is started when it is first needed, and restarted after it died.

    connection: the `multiprocessing` connection to the process; None while the process is not running
    tasks: the tasks in progress, oldest first
    reading: the task that the process is reading, or reads next
    reading_since: when the process began to read that task, in seconds on the monotonic clock
    last_message_at: when the process last sent a message, in seconds on the monotonic clock
    """

    device: str | None
    name: str
    connection: Any = None
    tasks: deque[Task] = field(default_factory=deque)
    reading: Task | None = None
    reading_since: float = 0.0
    last_message_at: float = 0.0
    is_ready: bool = False
    failed_starts: int = 0
    _process: Any = None  # of `multiprocessing`
    _liveness: Any = None  # write end of a pipe, which the worker sees close when this process ends

    @property
    def is_started(self) -> bool:
        return self._process is not None

    @property
    def is_alive(self) -> bool:
        return self._process is not None and bool(self._process.is_alive())

    @property
    def suspect(self) -> Task:
        """The task to suspect if the process crashes or hangs."""
        return self.reading or self.tasks[0]

    def start(self, config: WorkerConfig, threads: int | None) -> None:
        context: Any = multiprocessing.get_context(start_method())
        connection, worker_connection = context.Pipe()
        worker_liveness, liveness = context.Pipe(duplex=False)
        arguments = (worker_connection, worker_liveness, config, self.device, threads)
        process = context.Process(target=serve, args=arguments, daemon=True)
        if sys.platform != "win32":
            resource_tracker.ensure_running()  # before signals are blocked: its start unblocks them
        with signals_blocked():
            process.start()
            self._process, self.connection, self._liveness, self.is_ready = process, connection, liveness, False
        worker_connection.close()
        worker_liveness.close()

    def give(self, task: Task) -> None:
        self.tasks.append(task)
        self.reading, self.reading_since, self.last_message_at = task, time.monotonic(), time.monotonic()
        with suppress(OSError):  # the process died, which reading from the connection will show
            self.connection.send(task)

    def ask_to_stop(self) -> None:
        if not self.tasks or sys.platform == "win32":
            self.connection.close()  # the process notices at its next frame
        else:
            self._process.terminate()

    def wait_for_end(self, seconds: float) -> None:
        self._process.join(seconds)

    def kill(self) -> str:
        """Kill the process if it is still running, and return how it ended, in words."""
        self.connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        how_it_ended = _describe_exit(self._process.exitcode)
        self._process.close()
        self._liveness.close()
        self._process = self.connection = None
        return how_it_ended


def _describe_exit(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"exit status {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = str(-exit_code)
    out_of_memory = "; possibly out of memory" if name == "SIGKILL" else ""
    return f"signal {name}{out_of_memory}"
