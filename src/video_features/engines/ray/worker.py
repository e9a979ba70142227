"""A worker on a machine of a Ray cluster: runs bundles of tasks and returns their outcomes."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ...errors import OutputError
from ...features import Outcome
from ...runtimes.devices import choose_device
from ...tasks.videos import Task
from ...tasks.work import Work, WorkerConfig
from ..base import Completed, Observer
from ..local import local_executor
from ..messages import Logged
from ..worker import LogForwarder


@dataclass(frozen=True)
class WorkerReady:
    """The worker has started. node: Ray's ID of its node; logged: what it logged since its last reply"""

    node: str
    logged: list[Logged]


@dataclass(frozen=True)
class BundleDone:
    """A bundle of tasks has ended.

    outcomes: of each task, in the order of the bundle
    seconds: {activity: seconds that the bundle spent on it}
    elapsed_seconds: how long the bundle took
    logged: what the worker logged since its last reply
    """

    outcomes: list[list[Outcome]]
    seconds: dict[str, float]
    elapsed_seconds: float
    logged: list[Logged]


class Worker:
    """A Ray actor that runs bundles of tasks in the same way as a local run.

    config: what the work is built from
    cpus: how many CPU threads the worker may use, rounded down
    folder: the working directory, against which relative paths are resolved; ignored if it does not exist here
    """

    def __init__(self, config: WorkerConfig, cpus: float, folder: str) -> None:
        self._config = config
        self._cpus = cpus
        self._folder = folder
        self._work: Work | None = None
        self._logged: list[Logged] = []

    def ready(self) -> WorkerReady:
        """Build the work and load its networks. Raises VideoFeaturesError if that fails."""
        import ray

        self._begin()
        return WorkerReady(ray.get_runtime_context().get_node_id(), self._take_logged())

    def _begin(self) -> None:
        forwarder = LogForwarder(self._logged.append)
        # The stream handler writes to Ray's logs, in case the worker dies before it returns its messages.
        logging.getLogger().handlers = [logging.StreamHandler(), forwarder]
        logging.getLogger().setLevel(logging.WARNING)  # the driver has already logged what building the extractors logs
        with suppress(OSError):
            os.chdir(self._folder)
        self.stop()  # a bundle that Ray reported as lost may still be running
        root = self._config.run.output_path
        if isinstance(root, Path) and not (root / ".video_features").is_dir():  # which the driver has created
            raise OutputError(
                f"output_path={root}: does not exist on {socket.gethostname()}; with engine=ray it must be the "
                "absolute path of a folder that all machines share, or a URL such as s3://bucket/features"
            )
        threads = max(1, int(self._cpus))
        self._observer = Observer()
        self._work = self._config.work(threads)
        self._executor = local_executor(self._config, self._work, self._observer, threads=threads)
        if not self._config.run.in_processes:  # worker processes load their own networks
            self._work.load(choose_device(self._config.run.device))

    def extract(self, tasks: list[Task]) -> BundleDone:
        """Run a bundle of tasks."""
        if self._work is None:  # Ray restarted the worker, which died while it was idle
            self._begin()
        began, executor, waiting = time.monotonic(), self._executor, deque(tasks)
        outcomes: dict[int, list[Outcome]] = {}
        while waiting or not executor.is_idle():
            while waiting and executor.has_room():
                executor.submit(waiting.popleft())
            for completed in executor.completed():
                outcomes[completed.task.number] = self._without_arrays(completed)
        seconds = dict(self._observer.seconds)
        self._observer.seconds.clear()
        in_order = [outcomes[task.number] for task in tasks]
        return BundleDone(in_order, seconds, time.monotonic() - began, self._take_logged())

    def stop(self) -> None:
        """Cancel the bundle in progress and remove its partially written files."""
        if self._work is not None:
            self._executor.shutdown()

    def _take_logged(self) -> list[Logged]:
        logged = self._logged.copy()
        del self._logged[: len(logged)]  # another thread may have logged more meanwhile
        return logged

    def _without_arrays(self, completed: Completed) -> list[Outcome]:
        """The outcomes, with features that load their arrays from the output files on first access."""
        assert self._work is not None
        sink, name = self._work.bookkeeping.sink, completed.task.name
        return [
            outcome if outcome.features is None else replace(outcome, features=sink.stored(name, outcome.features))
            for outcome in completed.outcomes
        ]
