"""Which video is done next: those that are not done yet and that no other process is at; and the record of each end."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .claims import Claim, Claims
from .errors import WriteError, counted
from .features import Outcome
from .ledger import Ledger, as_json
from .lists import Task
from .places import Place
from .progress import Watch
from .work import Work

log = logging.getLogger(__name__)

RECORD_EVERY_SECONDS = 1.0  # what was settled before it began
POLL_SECONDS = 0.5  # for videos that other processes are at
PROBE_BYTES = 1 << 20  # where so much cannot be written, nothing can


class Schedule:
    """Gives tasks to a place, and yields how they ended.

    work: tells which tasks are settled
    place: does the others
    claims, ledger: of the output folder; None where there is none
    watch: told of every end
    """

    def __init__(self, work: Work, place: Place, claims: Claims | None, ledger: Ledger | None, watch: Watch) -> None:
        self._work = work
        self._watch = watch
        self._place = place
        self._claims = claims
        self._ledger = ledger
        self._held: dict[str, Claim] = {}  # by a task's name
        self._busy: deque[Task] = deque()  # other processes are at these
        self._has_told = False
        self._lines: list[dict[str, Any]] = []  # of outcomes that are not recorded yet
        self._recorded = 0.0

    def outcomes(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """How every task ended, as it ends. Raises WriteError once nothing can be written any more."""
        coming = iter(tasks)
        try:
            while True:
                while self._place.has_room() and (task := next(coming, None)) is not None:
                    yield from self._told(task, self._offer(task))
                for task in self._again():
                    yield from self._told(task, self._offer(task))
                if self._place.is_idle() and not self._busy:
                    return
                for task, outcomes in self._place.ended(POLL_SECONDS if self._busy else None):
                    yield from self._told(task, outcomes)
        finally:
            self._place.stop()
            for claim in self._held.values():
                claim.release()
            self._record()

    def _offer(self, task: Task) -> list[Outcome]:
        """The task's outcomes where it is settled; else it begins, or waits for the process that is at it."""
        settled = self._work.settled(task)
        if len(settled) < len(self._work.extractors) and self._claims is not None:
            claim = self._claims.claim(self._work.record_paths(task))
            if claim is None:
                self._busy.append(task)
                return []
            self._held[task.name] = claim
            settled = self._work.settled(task)  # another process may have been faster
        if len(settled) == len(self._work.extractors):
            return list(settled.values())
        self._place.begin(task)
        return []

    def _again(self) -> Iterator[Task]:
        """The tasks that other processes were at, once there is nothing else to do."""
        if self._busy and self._place.is_idle():
            if not self._has_told:
                log.info("other processes are at %s: waiting for them", counted(len(self._busy), "video"))
                self._has_told = True
            time.sleep(POLL_SECONDS)
        for _ in range(len(self._busy)):
            if not self._place.has_room():
                return
            yield self._busy.popleft()

    def _told(self, task: Task, outcomes: list[Outcome]) -> Iterator[Outcome]:
        """Record the outcomes, and leave the task's claim."""
        if not outcomes:
            return
        claim = self._held.pop(task.name, None)
        try:
            self._lines += [as_json(outcome, task.video) for outcome in outcomes]
            if claim is not None or time.monotonic() - self._recorded > RECORD_EVERY_SECONDS:
                self._record()
        finally:
            if claim is not None:
                claim.release()
        self._watch.ended()
        yield from outcomes
        if self._ledger is not None and any(outcome.error == WriteError.__name__ for outcome in outcomes):
            _check_can_write(self._ledger.path.parent)

    def _record(self) -> None:
        if self._ledger is not None and self._lines:
            lines, self._lines = self._lines, []
            self._ledger.append(lines)
        self._recorded = time.monotonic()


def _check_can_write(root: Path) -> None:
    """Raise WriteError where nothing can be written any more."""
    probe = root / ".video_features" / "probe"
    try:
        probe.write_bytes(bytes(PROBE_BYTES))
        probe.unlink()
    except OSError as error:
        raise WriteError(
            f"{root}: nothing can be written there any more ({error.strerror}), so the run stops; what is done stays "
            "done, and the same command goes on with the rest"
        ) from error
