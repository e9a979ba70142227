"""Schedule the videos that are not finished and that no other process works on, and record every outcome."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ..engines.base import Completed, Executor, Observer
from ..errors import WriteError
from ..features import Outcome
from ..tasks.bookkeeping import Bookkeeping
from ..tasks.videos import Task
from .claims import Claim, Claims
from .ledger.base import Ledger, RecordedOutcome, as_json

log = logging.getLogger(__name__)

RECORD_EVERY_SECONDS = 1.0  # for outcomes without a claim, such as videos that were finished before the run
MAX_DEFERRED = 256  # tasks that wait for another task of the same name
POLL_SECONDS = 0.5  # between attempts to claim videos that other processes work on


class Schedule:
    """Gives tasks to an executor, and yields their outcomes.

    bookkeeping: checks which tasks are finished already
    executor: runs the other tasks
    claims: on the outputs; None if the outputs have no claims, in which case other processes are ignored
    ledger: of the outputs; None if no files are written
    observer: notified when a task has ended
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
        self._claims_held: dict[str, Claim] = {}  # {name of a task: its claim}
        self._running_names: set[str] = set()  # of tasks in progress without a claim, in case a later name is the same
        self._deferred: deque[Task] = deque()  # claimed by other processes, or named like a task in progress
        # If the executor keeps the order: {number of a task: its outcomes, once they wait for an earlier task}.
        self._in_progress: dict[int, list[Outcome] | None] = {}
        self._finished_at_start: dict[int, set[str]] = {}  # {number of a submitted task: features finished before}
        self._has_logged_wait = False
        self._unrecorded: list[dict[str, Any]] = []  # lines for the ledger
        self._recorded_at = 0.0  # on the monotonic clock

    def outcomes(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcomes of each task as it ends. Raises WriteError once nothing can be written any more."""
        remaining = iter(tasks)
        try:
            while True:
                while self._accepts_more() and (task := next(remaining, None)) is not None:
                    yield from self._report(task, self._start(task))
                    yield from self._completed(0)
                for task in self._take_deferred():
                    yield from self._report(task, self._start(task))
                if self._executor.is_idle() and not self._deferred:
                    return
                yield from self._completed(POLL_SECONDS if self._deferred else None)
        finally:
            with ExitStack() as stack:  # runs every callback even if others raise, the last one first
                stack.callback(self._observer.close)
                if self._ledger is not None:
                    stack.callback(self._ledger.close)
                stack.callback(self._record)
                for claim in self._claims_held.values():
                    stack.callback(claim.release)
                stack.callback(self._executor.shutdown)

    def _accepts_more(self) -> bool:
        """Whether to take another task from the list. Without claims, the number of deferred tasks is limited."""
        return self._executor.has_room() and (self._claims is not None or len(self._deferred) < MAX_DEFERRED)

    def _start(self, task: Task) -> list[Outcome]:
        """Return the outcomes of a finished task. Otherwise submit the task, or defer it, and return no outcomes."""
        if task.name in self._running_names:  # in a streamed list, two videos may have outputs of the same name
            self._deferred.append(task)
            return []
        outcomes = self._bookkeeping.finished(task)
        if len(outcomes) < len(self._bookkeeping.extractors) and self._claims is not None:
            claim = self._claims.claim(self._bookkeeping.record_paths(task))
            if claim is None:
                self._deferred.append(task)
                return []
            self._claims_held[task.name] = claim
            outcomes = self._bookkeeping.finished(task)  # another process may have finished it before the claim
            outcomes |= self._failed_elsewhere(task, self._bookkeeping.provenance.keys() - outcomes.keys())
        if len(outcomes) == len(self._bookkeeping.extractors):
            return list(outcomes.values())
        if self._executor.keeps_order:
            self._in_progress[task.number] = None
        if self._ledger is not None and self._claims is None:
            self._running_names.add(task.name)
        self._finished_at_start[task.number] = set(outcomes)
        self._executor.submit(task)
        return []

    def _failed_elsewhere(self, task: Task, features: Iterable[str]) -> dict[str, Outcome]:
        """The failures of these features that other processes have recorded since this run began."""
        found: dict[str, Outcome] = {}
        for feature in features:
            recorded = self._recorded(task, feature)
            if recorded is None or not recorded.is_new:
                continue
            if recorded.status == "failed" and recorded.error != WriteError.__name__:
                found[feature] = Outcome(task.location, feature, "failed", recorded.reason, error=recorded.error)
        return found

    def _take_deferred(self) -> Iterator[Task]:
        """Take each deferred task once, while the executor has room. Waits if only other processes have work left."""
        if self._deferred and self._executor.is_idle() and self._claims is not None:
            if not self._has_logged_wait:
                log.info("Waiting for videos that other processes work on")
                self._has_logged_wait = True
            time.sleep(POLL_SECONDS)
        for _ in range(len(self._deferred)):
            if not self._executor.has_room():
                return
            yield self._deferred.popleft()

    def _completed(self, timeout: float | None) -> Iterator[Outcome]:
        for completed in self._executor.completed(timeout):
            yield from self._report(completed.task, self._credited(completed))

    def _credited(self, completed: Completed) -> list[Outcome]:
        """The outcomes, with features as `done` that a worker wrote before it died, and its successor only found."""
        finished = self._finished_at_start.pop(completed.task.number, set())
        if not completed.was_retried:
            return completed.outcomes
        return [
            replace(outcome, status="done", reason="")
            if outcome.status == "skipped" and outcome.feature not in finished
            else outcome
            for outcome in completed.outcomes
        ]

    def _report(self, task: Task, outcomes: list[Outcome]) -> Iterator[Outcome]:
        """Record the outcomes, release the claim of the task, and yield the outcomes that are due."""
        if not outcomes:
            return
        claim = self._claims_held.pop(task.name, None)
        self._running_names.discard(task.name)
        try:
            self._unrecorded += [
                as_json(outcome, task.video, self._bookkeeping.provenance[outcome.feature].model_name)
                for outcome in outcomes
                if not self._is_recorded(task, outcome)
            ]
            if claim is not None or time.monotonic() - self._recorded_at > RECORD_EVERY_SECONDS:
                self._record()
        except WriteError:
            yield from outcomes  # their reasons say more than the error
            raise
        finally:
            if claim is not None:
                claim.release()
        self._observer.ended(outcomes)
        yield from self._in_order(task, outcomes)
        if self._ledger is not None and any(outcome.error == WriteError.__name__ for outcome in outcomes):
            self._ledger.check_can_write()

    def _in_order(self, task: Task, outcomes: list[Outcome]) -> Iterator[Outcome]:
        """The outcomes of this task, and of tasks that waited for it, unless an earlier task is still in progress."""
        self._in_progress[task.number] = outcomes
        for number, ended in list(self._in_progress.items()):
            if ended is None:
                return
            del self._in_progress[number]
            yield from ended

    def _is_recorded(self, task: Task, outcome: Outcome) -> bool:
        """Whether an earlier run or another process has recorded the same outcome."""
        if outcome.status == "skipped" and self._ledger is not None and not self._ledger.has_read:
            return True  # by the run that wrote the outputs
        if outcome.status == "done" or (recorded := self._recorded(task, outcome.feature)) is None:
            return False
        if outcome.status == "skipped":
            return recorded.status in ("done", "skipped")
        return recorded.is_new and recorded.status == "failed" and recorded.reason == outcome.reason

    def _recorded(self, task: Task, feature: str) -> RecordedOutcome | None:
        """The latest recorded outcome of a feature; None if there is none."""
        if self._ledger is None or not self._ledger.has_read:
            return None
        return self._ledger.last(feature, self._bookkeeping.provenance[feature].model_name, task.video)

    def _record(self) -> None:
        if self._ledger is not None and self._unrecorded:
            lines, self._unrecorded = self._unrecorded, []
            self._ledger.append(lines)
        self._recorded_at = time.monotonic()
