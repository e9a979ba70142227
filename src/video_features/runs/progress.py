"""Show the progress of a run on standard error: one bar for all videos and all processes.

On a terminal and in a notebook the bar is redrawn in place. In a pipe or a file there is a line now and then instead.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Protocol

from tqdm import TqdmWarning, tqdm

from ..engines.base import Observer
from ..errors import printable
from ..features import Outcome, real_time
from ..tasks.videos import Task

REDRAW_SECONDS = 0.1
DELAY_SECONDS = 0.3  # a run that is over at once, because everything is done, shows no bar
LINE_EVERY_SECONDS = 30.0  # without a terminal; the first line comes sooner
FIRST_LINE_SECONDS = 10.0
WIDE = 100  # columns in which all texts fit
LONGEST_NAME, SHORTEST_NAME = 32, 8  # characters of the name of a video


@dataclass(frozen=True)
class State:
    """What the bar shows: texts, of which some are empty.

    device: in words
    done: 0 … 1; None if unknown
    name, position: of the video that is being read: its name, and the seconds that have been read
    """

    device: str
    done: float | None
    videos: str
    clock: str
    speed: str
    name: str
    position: str

    def text(self) -> str:
        """Everything but the device and the percentage."""
        current = f"{shortened(self.name, LONGEST_NAME)}: {self.position}" if self.name else ""
        return self._joined(self.speed, current)

    def short_text(self, columns: int) -> str:
        """The most important of it, in so many columns if possible."""
        speed = self.speed.partition(" ")[0]  # ×3.9
        room = columns - len(self._joined(speed, "")) - 1
        return self._joined(speed, shortened(self.name, max(room, SHORTEST_NAME)))

    def _joined(self, speed: str, current: str) -> str:
        clock = f"[{self.clock}, {speed}]" if speed else f"[{self.clock}]"
        return " ".join(filter(None, (self.videos, clock, current)))


class Display(Protocol):
    """Shows the state of a run. every_seconds: how often, from `first_seconds` on"""

    first_seconds: float
    every_seconds: float

    def show(self, state: State) -> None: ...

    def close(self) -> None: ...


class Lines:
    """A line now and then, for log files."""

    first_seconds, every_seconds = FIRST_LINE_SECONDS, LINE_EVERY_SECONDS

    def show(self, state: State) -> None:
        done = "" if state.done is None else f"{state.done:.0%}, "
        print(f"{state.device}: {done}{state.text()}", file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class Bar:
    """A bar that is redrawn in place.

    kind: tqdm's class of bars, for a terminal or for a notebook
    """

    first_seconds, every_seconds = DELAY_SECONDS, REDRAW_SECONDS

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind
        self._bar: Any = None

    def show(self, state: State) -> None:
        if self._bar is None:
            total = None if state.done is None else 1.0
            self._bar = self._kind(total=total, leave=False, dynamic_ncols=True, bar_format="{desc}")
        columns = self._bar.ncols if isinstance(self._bar.ncols, int) else WIDE  # unknown in a notebook
        text = state.text() if columns >= WIDE else state.short_text(columns - len(f"{state.device}: 100%|{'':10}| "))
        # A notebook draws the bar where it finds `{bar}`; on a terminal, that would be all of the rest of the line.
        bar = "{bar:10}" if self._kind is tqdm else "{bar}"
        done = "" if state.done is None else f"{{percentage:3.0f}}%|{bar}| "
        self._bar.bar_format = f"{_literal(state.device)}: {done}{_literal(text)}"
        self._bar.n = state.done or 0.0
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _literal(text: str) -> str:
    """Escape a text for a format string."""
    return text.replace("{", "{{").replace("}", "}}")


def choose_display() -> Display:
    """Return a bar if there is a notebook or a terminal to show it, and lines otherwise."""
    if _is_notebook():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TqdmWarning)  # without ipywidgets, the bar is text
            from tqdm.auto import tqdm as notebook_bar
        return Bar(notebook_bar)
    return Bar(tqdm) if _is_terminal() else Lines()


def _is_terminal() -> bool:
    """Whether standard error is a terminal, of a size that is known: a bar needs columns."""
    try:
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):  # not a file: a program of its own that shows text
        return sys.stderr.isatty()


def _is_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


class Progress(Observer):
    """Shows one bar, or a line now and then. Its clock starts with the run and is never set back.

    The speed and the time left count from the first video that is read, so that they leave out how long the networks
    took to load, and leave out videos that were finished before.

    total: the number of videos; None if unknown
    began: when the run began, in seconds on the monotonic clock; None: now
    """

    def __init__(self, total: int | None, began: float | None = None) -> None:
        super().__init__()
        self._total = total
        self._began = time.monotonic() if began is None else began
        self._reads_since: float | None = None
        self._devices: dict[str, str] = {}  # {worker: device in words}
        self._current: dict[str, tuple[str, float, float | None]] = {}  # {worker: name, seconds read, length}
        self._ended = self._skipped = 0
        self._position = 0.0  # videos, the parts of those in progress included
        self._ended_seconds = self._video_seconds = 0.0  # of videos that have ended; of all that was read
        self._display = choose_display()
        self._due = self._began + self._display.first_seconds

    def ready(self, worker: str, device: str) -> None:
        self._devices[worker] = device

    def waiting(self) -> None:
        self._show()

    def progress(self, worker: str, task: Task, seconds: float, length: float | None) -> None:
        if self._reads_since is None:
            self._reads_since = time.monotonic()
        self._current.pop(worker, None)  # the latest comes last
        self._current[worker] = printable(PurePath(task.location).name), seconds, length
        self._show()

    def idle(self, worker: str) -> None:
        self._current.pop(worker, None)

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        self._ended += 1
        if all(outcome.status == "skipped" for outcome in outcomes):
            self._skipped += 1
        elif self._reads_since is None:  # a cluster does not tell when it reads a video
            self._reads_since = self._began
        self._ended_seconds += max((outcome.video_seconds for outcome in outcomes), default=0.0)
        self._show()

    def close(self) -> None:
        self._display.close()

    def _show(self) -> None:
        now = time.monotonic()
        parts = sum(min(seconds / length, 1.0) if length else 0.0 for _, seconds, length in self._current.values())
        seconds = sum(seconds for _, seconds, _ in self._current.values())
        # A video that was read, but has not ended yet, is counted as soon as it ends: nothing goes back meanwhile.
        self._position = max(self._position, self._ended + parts)
        self._video_seconds = max(self._video_seconds, self._ended_seconds + seconds)
        if now >= self._due:
            self._due = now + self._display.every_seconds
            self._display.show(self._state(now))

    def _state(self, now: float) -> State:
        working = 0.0 if self._reads_since is None else now - self._reads_since
        is_known = working >= 1 and self._video_seconds >= 1  # earlier, the numbers would be wild
        count = f"{self._ended}" if self._total is None else f"{self._ended}/{self._total}"
        left = ""
        if self._total is not None:
            worked = self._position - self._skipped
            seconds_left = working / worked * (self._total - self._position) if is_known and worked else None
            left = "<?" if seconds_left is None else f"<{tqdm.format_interval(seconds_left)}"
        name, position = self._current_in_words()
        return State(
            device=devices_in_words(self._devices.values()) if self._devices else "Starting",
            done=None if not self._total else min(1.0, self._position / self._total),
            videos="" if self._total == 1 else f"{count} videos",
            clock=f"{tqdm.format_interval(now - self._began)}{left}",
            speed=real_time(self._video_seconds, working) if is_known else "",
            name=name,
            position=position,
        )

    def _current_in_words(self) -> tuple[str, str]:
        """The name of the video that was read last, and how much of it was read; empty if none is being read."""
        if not self._current:
            return "", ""
        name, seconds, length = list(self._current.values())[-1]
        others = f" and {len(self._current) - 1} more" if len(self._current) > 1 else ""
        of = "" if length is None else f" of {length:.1f}"
        return name, f"{seconds:.1f}{of} s{others}"


def devices_in_words(devices: Iterable[str]) -> str:
    """Return `CPU (8 cores)` for one process, and `2 × NVIDIA H200` for several. devices: one per process, in words"""
    found = list(devices)
    if len(found) == 1:
        return found[0]
    kinds = Counter(device.partition(" (")[0] for device in found)
    return " + ".join(f"{number} × {kind}" if number > 1 else kind for kind, number in kinds.items())


def shortened(name: str, longest: int) -> str:
    """Return a file name, without its middle if it has more than `longest` characters."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"
