"""A worker process as its parent sees it: started, given tasks, ended."""

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
from .worker import serve


@dataclass
class WorkerProcess:
    """One process, which is started when it is first needed, and again after it died.

    connection: multiprocessing's, to it; None while it is not started
    tasks: in progress, in their order
    reading: the one of them that it reads, or is to read
    began, heard: when that began, and when the process last said something, on the monotonic clock
    """

    device: str | None
    name: str
    connection: Any = None
    tasks: deque[Task] = field(default_factory=deque)
    reading: Task | None = None
    began: float = 0.0
    heard: float = 0.0
    is_ready: bool = False
    failed_starts: int = 0
    _process: Any = None  # multiprocessing's
    _parent: Any = None  # another connection, whose other end tells it that this process is still there

    @property
    def is_started(self) -> bool:
        return self._process is not None

    @property
    def is_alive(self) -> bool:
        return self._process is not None and bool(self._process.is_alive())

    @property
    def suspect(self) -> Task:
        """The task that most likely is at fault where something goes wrong."""
        return self.reading or self.tasks[0]

    def start(self, config: WorkerConfig, threads: int | None) -> None:
        context: Any = multiprocessing.get_context(_start_method())
        ours, theirs = context.Pipe()
        is_here, we_are_here = context.Pipe(duplex=False)
        process = context.Process(target=serve, args=(theirs, is_here, config, self.device, threads), daemon=True)
        if sys.platform != "win32":
            resource_tracker.ensure_running()  # which, when it starts, lets all signals through
        with signals_blocked():
            process.start()
            self._process, self.connection, self._parent, self.is_ready = process, ours, we_are_here, False
        theirs.close()
        is_here.close()

    def give(self, task: Task) -> None:
        self.tasks.append(task)
        self.reading, self.began, self.heard = task, time.monotonic(), time.monotonic()
        with suppress(OSError):  # it died, as its end will tell
            self.connection.send(task)

    def ask_to_stop(self) -> None:
        if not self.tasks or sys.platform == "win32":
            self.connection.close()  # which it notices at its next frame
        else:
            self._process.terminate()

    def wait_for_end(self, seconds: float) -> None:
        self._process.join(seconds)

    def kill(self) -> str:
        """End it where it does not by itself; how it ended, in words."""
        self.connection.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        ended = _in_words(self._process.exitcode)
        self._process.close()
        self._parent.close()
        self._process = self.connection = None
        return ended


def _start_method() -> str:
    """On Linux processes are forked from one that has the libraries loaded, and has never used a GPU or a thread."""
    if sys.platform != "linux":
        return "spawn"
    multiprocessing.set_forkserver_preload([serve.__module__])
    return "forkserver"


def _in_words(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"exit status {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = str(-exit_code)
    out_of_memory = "; perhaps there was no memory left" if name == "SIGKILL" else ""
    return f"signal {name}{out_of_memory}"
