"""Show the progress of a run on a terminal: a bar for all videos, and a line per process with its current video."""

from __future__ import annotations

import time
from pathlib import PurePath
from typing import Any

from tqdm import tqdm

from ..engines.base import Observer
from ..errors import printable
from ..tasks.videos import Task

BAR = "{desc}: {percentage:3.0f}% |{bar}| {n:.1f}/{total_fmt} videos, {rate_fmt}, {elapsed} elapsed, {remaining} left"
COUNT = "{desc}: {n:.1f} videos, {rate_fmt}, {elapsed} elapsed"


class Bars(Observer):
    """A bar for the videos of a run, and below it a line per process. Shows nothing if standard error is no terminal.

    total: the number of videos; None if unknown
    """

    def __init__(self, total: int | None) -> None:
        super().__init__()
        bar = COUNT if total is None else BAR
        self._run: tqdm[Any] = tqdm(total=total, desc="all", unit="video", bar_format=bar, leave=False, disable=None)
        self._lines: dict[str, tqdm[Any]] = {}
        self._ended = 0
        self._parts: dict[str, float] = {}  # {worker: fraction of its current video}

    def progress(self, worker: str, task: Task, seconds: float, length: float | None) -> None:
        line = self._lines.get(worker)
        if line is None:
            line = tqdm(bar_format="{desc}", position=len(self._lines) + 1, leave=False, disable=None)
            self._lines[worker] = line
        name = printable(PurePath(task.location).name)
        of = "" if length is None else f" of {length:.1f}"
        line.set_description_str(f"{worker}: {name}: {seconds:.1f}{of} s")
        if not self._ended and not self._parts:  # leave the time before the first video out of the rate
            self._run.start_t = self._run.last_print_t = time.time()
        self._parts[worker] = min(seconds / length, 1.0) if length else 0.0
        self._show()

    def idle(self, worker: str) -> None:
        self._parts.pop(worker, None)
        if worker in self._lines:
            self._lines[worker].set_description_str(f"{worker}:")

    def ended(self) -> None:
        self._ended += 1
        self._show()

    def close(self) -> None:
        for bar in (*self._lines.values(), self._run):
            bar.close()

    def _show(self) -> None:
        self._run.update(self._ended + sum(self._parts.values()) - self._run.n)
