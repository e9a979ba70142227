"""The summary of a run: what was done, skipped and failed, how much video that was, and how fast it went."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..errors import counted, kind_of, printable
from ..features import Outcome, real_time
from ..locations import Location, shown

STATUSES = ("done", "skipped", "failed")


class Summary:
    """Counts the outcomes of a run.

    videos: the number of videos; None if unknown
    features: the number of features per video
    began: when the run began, in seconds on the monotonic clock
    root: where the files are; None if none are written
    """

    def __init__(self, videos: int | None, features: int, began: float, root: Location | None) -> None:
        self._total = None if videos is None else videos * features
        self._features = features
        self._began = began
        self._root = root
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._rows = 0
        self._video_seconds = 0.0

    def add(self, outcome: Outcome) -> None:
        self._counts[outcome.status] += 1
        self._video_seconds += outcome.video_seconds / self._features
        if outcome.status == "done" and outcome.features is not None:
            self._rows += len(outcome.features)
        if outcome.status == "failed":
            kind = kind_of(outcome.reason, outcome.location)
            self._failures[kind] += 1
            self._examples.setdefault(kind, outcome.location)

    def finish(self) -> None:
        """Note that the run is complete. Videos without an outcome were duplicates of other videos."""
        self._total = sum(self._counts.values())

    @property
    def is_failed(self) -> bool:
        return self._counts["failed"] > 0

    @property
    def has_outcomes(self) -> bool:
        return bool(self._counts)

    @property
    def has_one_outcome(self) -> bool:
        return self._total == 1

    def as_json(self) -> dict[str, Any]:
        elapsed = time.monotonic() - self._began
        ended = sum(self._counts.values())
        return {
            **{status: self._counts[status] for status in STATUSES},
            "left": None if self._total is None else max(0, self._total - ended),
            "rows": self._rows,
            "video_seconds": round(self._video_seconds, 3),
            "elapsed_seconds": round(elapsed, 3),
            "videos_per_second": round(ended / self._features / elapsed, 4),
            "hours_of_video_per_hour": round(self._video_seconds / elapsed, 4),
            "failures": dict(self._failures.most_common()),
        }

    def counts(self) -> str:
        return ", ".join(f"{self._counts[status]} {status}" for status in STATUSES)

    def left(self) -> str:
        """How many outcomes are missing, in words."""
        if self._total is None:
            return "an unknown number left"
        return f"{self.as_json()['left']} of {self._total} left"

    def lines(self) -> Iterator[str]:
        """The lines of the summary at the end: the counts and the speed, where the files are, failures by reason.

        Nothing is said of the speed where nothing was done, nor of files where there are none.
        """
        each = f" ({self._features} features of each video)" if self._features > 1 else ""
        where = f", in {printable(shown(self._root))}" if self._root is not None else ""
        if self._counts["done"]:
            elapsed = time.monotonic() - self._began
            made = f"{counted(self._rows, 'row')} from {duration(self._video_seconds)} of video in {duration(elapsed)}"
            speed = f" ({real_time(self._video_seconds, elapsed)})" if self._video_seconds else ""
            yield f"{self.counts()}{each}: {made}{speed}{where}"
        elif self._counts["skipped"]:
            yield f"{self.counts()}{each}: nothing new{where}"
        else:
            yield f"{self.counts()}{each}"
        for kind, count in self._failures.most_common():
            yield printable(f"{count:8} failed: {kind} (e.g. {self._examples[kind]})")


def duration(seconds: float) -> str:
    """Return a duration in words: `4.7 s`, `12 min 30 s`, `3 h 20 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, whole_seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {whole_seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"
