"""What runs on the machines of a Ray cluster: bundles of tasks in, reports out; everything else happens here."""

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
    """A worker can begin. node: Ray's name of its machine; logged: since its last message"""

    node: str
    logged: list[Logged]


@dataclass(frozen=True)
class BundleDone:
    """What became of a bundle.

    outcomes: of each task, in their order
    seconds: what the time was spent on
    elapsed_seconds: from the first task to the last
    logged: since the worker's last message
    """

    outcomes: list[list[Outcome]]
    seconds: dict[str, float]
    elapsed_seconds: float
    logged: list[Logged]


class Worker:
    """An actor of the cluster: does bundles of tasks as a local run does.

    folder: what relative paths start from, where it is there
    """

    def __init__(self, config: WorkerConfig, cpus: float, folder: str) -> None:
        self._config = config
        self._cpus = cpus
        self._folder = folder
        self._work: Work | None = None
        self._logged: list[Logged] = []

    def ready(self) -> WorkerReady:
        """Make the work, with its networks. Raises VideoFeaturesError where that is not possible."""
        import ray

        self._begin()
        return WorkerReady(ray.get_runtime_context().get_node_id(), self._take_logged())

    def _begin(self) -> None:
        forwarder = LogForwarder(self._logged.append)
        logging.getLogger().handlers = [logging.StreamHandler(), forwarder]  # in Ray's logs, too, should it end
        logging.getLogger().setLevel(logging.WARNING)  # the first process logged what is logged as extractors are made
        with suppress(OSError):
            os.chdir(self._folder)
        self.stop()  # what Ray took for lost may still be there
        root = self._config.run.output_path
        if isinstance(root, Path) and not (root / ".video_features").is_dir():  # where the run has noted what it is for
            raise OutputError(
                f"output_path={root}: is not on {socket.gethostname()}; with engine=ray it must be a folder that all "
                "machines share, by its whole path, or a URL such as s3://bucket/features"
            )
        threads = max(1, int(self._cpus))
        self._observer = Observer()
        self._work = self._config.work(threads)
        self._executor = local_executor(self._config, self._work, self._observer, threads=threads)
        if not self._config.run.in_processes:  # which load for themselves
            self._work.load(choose_device(self._config.run.device))

    def extract(self, tasks: list[Task]) -> BundleDone:
        """Do a bundle of tasks."""
        if self._work is None:  # it died while it had nothing to do
            self._begin()
        began, executor, coming = time.monotonic(), self._executor, deque(tasks)
        outcomes: dict[int, list[Outcome]] = {}
        while coming or not executor.is_idle():
            while coming and executor.has_room():
                executor.submit(coming.popleft())
            for completed in executor.completed():
                outcomes[completed.task.number] = self._without_arrays(completed)
        seconds = dict(self._observer.seconds)
        self._observer.seconds.clear()
        in_order = [outcomes[task.number] for task in tasks]
        return BundleDone(in_order, seconds, time.monotonic() - began, self._take_logged())

    def stop(self) -> None:
        """Leave nothing half written."""
        if self._work is not None:
            self._executor.shutdown()

    def _take_logged(self) -> list[Logged]:
        logged = self._logged.copy()
        self._logged.clear()
        return logged

    def _without_arrays(self, completed: Completed) -> list[Outcome]:
        """The outcomes with features that are read from their files where they are needed."""
        assert self._work is not None
        sink, name = self._work.bookkeeping.sink, completed.task.name
        return [
            one if one.features is None else replace(one, features=sink.stored(name, one.features))
            for one in completed.outcomes
        ]
