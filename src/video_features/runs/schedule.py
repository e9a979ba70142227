"""Which video is done next: those that are not done yet and that no other process is at; and the record of each end."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from ..engines.base import Executor, Observer
from ..errors import WriteError
from ..features import Outcome
from ..tasks.bookkeeping import Bookkeeping
from ..tasks.videos import Task
from .claims import Claim, Claims
from .ledger.base import End, Ledger, as_json

log = logging.getLogger(__name__)

RECORD_EVERY_SECONDS = 1.0  # what was finished before it began
MOST_WAITING = 256  # tasks, for another one of their name
POLL_SECONDS = 0.5  # for videos that other processes are at


class Schedule:
    """Gives tasks to an executor, and yields how they ended.

    bookkeeping: tells which tasks are finished already
    executor: does the others
    claims, ledger: of the outputs; None where there are none. Without claims no other process is looked at
    observer: told of every end
    """

    def __init__(
        self,
        bookkeeping: Bookkeeping,
        executor: Executor,
        claims: Claims | None,
        ledger: Ledger | None,
        observer: Observer,
    ) -> None:
        self._bookkeeping = bookkeeping
        self._observer = observer
        self._executor = executor
        self._claims = claims
        self._ledger = ledger
        self._held: dict[str, Claim] = {}  # by a task's name
        self._under_way: set[str] = set()  # by a task's name, where those that are to come are not known
        self._busy: deque[Task] = deque()  # other processes are at these, or at another of their name this one is
        # Where the executor keeps the order, by a task's number: it, and its outcomes once they wait to be told.
        self._line: dict[int, tuple[Task, list[Outcome] | None]] = {}
        self._has_told = False
        self._lines: list[dict[str, Any]] = []  # of outcomes that are not recorded yet
        self._recorded = 0.0

    def outcomes(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """How every task ended, as it ends. Raises WriteError once nothing can be written any more."""
        coming = iter(tasks)
        try:
            while True:
                while self._takes_more() and (task := next(coming, None)) is not None:
                    yield from self._told(task, self._offer(task))
                    yield from self._ended(0)
                for task in self._again():
                    yield from self._told(task, self._offer(task))
                if self._executor.is_idle() and not self._busy:
                    return
                yield from self._ended(POLL_SECONDS if self._busy else None)
        finally:
            with ExitStack() as stack:  # each, whatever becomes of the others
                stack.callback(self._observer.close)
                if self._ledger is not None:
                    stack.callback(self._ledger.close)
                stack.callback(self._record)
                for claim in self._held.values():
                    stack.callback(claim.release)
                stack.callback(self._executor.shutdown)

    def _takes_more(self) -> bool:
        """Whether to take one more task; not where too many wait for others of their name."""
        return self._executor.has_room() and (self._claims is not None or len(self._busy) < MOST_WAITING)

    def _offer(self, task: Task) -> list[Outcome]:
        """The task's outcomes where it is finished; else it begins, or waits for the process that is at it."""
        if task.name in self._under_way:  # the list streams, so that this was not known
            self._busy.append(task)
            return []
        ends = self._bookkeeping.finished(task)
        if len(ends) < len(self._bookkeeping.extractors) and self._claims is not None:
            claim = self._claims.claim(self._bookkeeping.record_paths(task))
            if claim is None:
                self._busy.append(task)
                return []
            self._held[task.name] = claim
            ends = self._bookkeeping.finished(task)  # another process may have been faster
            ends |= self._failed_elsewhere(task, self._bookkeeping.provenance.keys() - ends.keys())
        if len(ends) == len(self._bookkeeping.extractors):
            return list(ends.values())
        if self._executor.keeps_order:
            self._line[task.number] = task, None
        if self._ledger is not None and self._claims is None:
            self._under_way.add(task.name)
        self._executor.submit(task)
        return []

    def _failed_elsewhere(self, task: Task, features: Iterable[str]) -> dict[str, Outcome]:
        """The failures of these features that other processes have recorded since this one began."""
        found: dict[str, Outcome] = {}
        for feature in features:
            end = self._recorded_end(task, feature)
            if end is not None and end.is_new and end.status == "failed" and end.error != WriteError.__name__:
                found[feature] = Outcome(task.location, feature, "failed", end.reason, error=end.error)
        return found

    def _again(self) -> Iterator[Task]:
        """The tasks that other processes were at, once there is nothing else to do."""
        if self._busy and self._executor.is_idle() and self._claims is not None:
            if not self._has_told:
                log.info("waiting for what other processes are at")
                self._has_told = True
            time.sleep(POLL_SECONDS)
        for _ in range(len(self._busy)):
            if not self._executor.has_room():
                return
            yield self._busy.popleft()

    def _ended(self, timeout: float | None) -> Iterator[Outcome]:
        for completed in self._executor.completed(timeout):
            yield from self._told(completed.task, completed.outcomes)

    def _told(self, task: Task, outcomes: list[Outcome]) -> Iterator[Outcome]:
        """Record the outcomes, and leave the task's claim."""
        if not outcomes:
            return
        claim = self._held.pop(task.name, None)
        self._under_way.discard(task.name)
        try:
            self._lines += [
                as_json(outcome, task.video, self._bookkeeping.provenance[outcome.feature].model_name)
                for outcome in outcomes
                if not self._is_recorded(task, outcome)
            ]
            if claim is not None or time.monotonic() - self._recorded > RECORD_EVERY_SECONDS:
                self._record()
        except WriteError:
            yield from outcomes  # which say more
            raise
        finally:
            if claim is not None:
                claim.release()
        self._observer.ended()
        yield from self._in_order(task, outcomes)
        if self._ledger is not None and any(outcome.error == WriteError.__name__ for outcome in outcomes):
            self._ledger.check_can_write()

    def _in_order(self, task: Task, outcomes: list[Outcome]) -> Iterator[Outcome]:
        """Those of the tasks that need not wait for one that began before."""
        self._line[task.number] = task, outcomes
        for one, (_, ended) in list(self._line.items()):
            if ended is None:
                return
            del self._line[one]
            yield from ended

    def _is_recorded(self, task: Task, outcome: Outcome) -> bool:
        """Whether there is a line of it, of an earlier run or another process."""
        if outcome.status == "skipped" and self._ledger is not None and not self._ledger.has_read:
            return True  # when it was made
        if outcome.status == "done" or (end := self._recorded_end(task, outcome.feature)) is None:
            return False
        if outcome.status == "skipped":
            return end.status in ("done", "skipped")
        return end.is_new and end.status == "failed" and end.reason == outcome.reason

    def _recorded_end(self, task: Task, feature: str) -> End | None:
        if self._ledger is None or not self._ledger.has_read:
            return None
        return self._ledger.last(feature, self._bookkeeping.provenance[feature].model_name, task.video)

    def _record(self) -> None:
        if self._ledger is not None and self._lines:
            lines, self._lines = self._lines, []
            self._ledger.append(lines)
        self._recorded = time.monotonic()
