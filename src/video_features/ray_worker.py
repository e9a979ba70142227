"""What runs on the machines of a Ray cluster. It is told tasks and tells outcomes; the rest takes place here."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import OutputError
from .features import Outcome
from .lists import Task
from .places import Watch
from .processes import place_here
from .reader import Forwarded
from .runtimes.devices import choose_device
from .work import Recipe, Work


@dataclass(frozen=True)
class Report:
    """What a worker tells of a bundle.

    outcomes: of each task
    seconds: what the time was spent on
    took_seconds: how long it was at it
    said: what it has logged since it last told: level and message
    """

    outcomes: list[list[Outcome]]
    seconds: dict[str, float]
    took_seconds: float
    said: list[tuple[int, str]]


class Worker:
    """What runs on the cluster: does bundles of tasks as a local run would.

    folder: which relative paths start from, where it is there
    """

    def __init__(self, recipe: Recipe, cpus: float, folder: str) -> None:
        self._recipe = recipe
        self._cpus = cpus
        self._folder = folder
        self._work: Work | None = None
        self._said: list[tuple[int, str]] = []

    def ready(self) -> tuple[str, list[tuple[int, str]]]:
        """Make the work, with its networks; Ray's name of this machine, and what was logged meanwhile. Raises
        VideoFeaturesError where that cannot be."""
        import ray

        self._begin()
        node: str = ray.get_runtime_context().get_node_id()
        return node, self._new_words()

    def _begin(self) -> None:
        forwarded = Forwarded(lambda *record: self._said.append(record))
        logging.getLogger().handlers = [logging.StreamHandler(), forwarded]  # in Ray's logs, too, should it end
        logging.getLogger().setLevel(logging.WARNING)  # what is said when extractors are made, the first process said
        with suppress(OSError):
            os.chdir(self._folder)
        self.stop()  # what Ray took for lost may still be there
        root = self._recipe.run.output_path
        if isinstance(root, Path) and not (root / ".video_features").is_dir():  # where the run has noted what it is for
            raise OutputError(
                f"output_path={root}: is not on {socket.gethostname()}; with engine=ray it must be a folder that all "
                "machines share, by its whole path, or a URL such as s3://bucket/features"
            )
        threads = max(1, int(self._cpus))
        self._watch = Watch()
        self._work = self._recipe.work(threads)
        self._place = place_here(self._recipe, self._work, self._watch, threads=threads)
        if not self._recipe.run.in_processes:  # which load for themselves
            self._work.load(choose_device(self._recipe.run.device))

    def extract(self, tasks: list[Task]) -> Report:
        """Do these."""
        if self._work is None:  # it died while it had nothing to do
            self._begin()
        began, place, coming = time.monotonic(), self._place, deque(tasks)
        by_task: dict[int, list[Outcome]] = {}
        while coming or not place.is_idle():
            while coming and place.has_room():
                place.begin(coming.popleft())
            for task, outcomes in place.ended():
                by_task[id(task)] = [self._slim(task, outcome) for outcome in outcomes]
        seconds, self._watch.seconds = dict(self._watch.seconds), type(self._watch.seconds)(float)
        every = [by_task[id(task)] for task in tasks]
        return Report(every, seconds, time.monotonic() - began, self._new_words())

    def stop(self) -> None:
        """Leave nothing half written."""
        if self._work is not None:
            self._place.stop()

    def _new_words(self) -> list[tuple[int, str]]:
        said, self._said = self._said, []
        return said

    def _slim(self, task: Task, outcome: Outcome) -> Outcome:
        assert self._work is not None
        if outcome.features is None:
            return outcome
        return replace(outcome, features=self._work.sink.stored(task.name, outcome.features))
