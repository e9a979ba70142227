"""Videos on the machines of a Ray cluster. Ray places workers, starts them again where one or its machine died, and
reports the calls that were lost. The videos are given out here, in bundles, and those that were lost to other workers.

Only tasks and outcomes go over the network: a worker decodes, computes and writes by itself.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from ...errors import VideoFeaturesError, printable
from ...tasks.videos import Task
from ...tasks.work import WorkerConfig
from ..base import SHUTDOWN_SECONDS, Observer
from ..messages import Logged
from ..pool import OnWorkerLost, WorkerPool
from .cluster import connect, import_ray, room_for, share_of_worker
from .worker import BundleDone, Worker, WorkerReady

log = logging.getLogger(__name__)

STARTS = 3  # of a worker, by Ray; then another one is hired, if any could ever begin
REMEMBERED = 1000  # warnings of workers, each of which is shown once
BUNDLE_SECONDS = 10.0  # that a bundle of videos should take
LARGEST_BUNDLE = 64
IDLE_SECONDS = 60.0  # after which a worker is let go
COMPLAIN_EVERY_SECONDS = 60.0  # that there is no room for any
LOOK_EVERY_SECONDS = 5.0  # for room for more workers


@dataclass(eq=False)
class WorkerHandle:
    """A worker as the run's first process sees it.

    actor: Ray's handle of it
    is_ready: whether it can begin, and where that is known
    node: the node of the cluster that it is on
    bundle: the tasks that it works on
    free_since: on the monotonic clock, where there are none
    """

    actor: Any
    is_ready: bool = False
    node: str = ""
    bundle: list[Task] = field(default_factory=list)
    free_since: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What came of a call of a worker: `WorkerReady`, `BundleDone` or an error of Ray's."""

    worker: WorkerHandle
    is_bundle: bool
    future: Future[Any]


class RayExecutor(WorkerPool):
    """Runs tasks in workers of a Ray cluster, a bundle of them at a time in each. See `Executor`.

    A bundle is so large that it takes some ten seconds, by how long videos took so far; of long videos it is one. The
    videos of a bundle with which a worker ended go to others one by one, to find the one that is at fault.
    """

    worker_name = "worker"
    tries = 3

    def __init__(self, config: WorkerConfig, observer: Observer, on_worker_lost: OnWorkerLost) -> None:
        # Weights may lie elsewhere on other machines.
        super().__init__(WorkerConfig(config.by_feature, config.run), observer, on_worker_lost)
        self._ray = import_ray()
        self._is_ours = False  # the connection to the cluster
        self._actors: Any = None  # Ray's class of workers
        self._workers: list[WorkerHandle] = []
        self._free: deque[WorkerHandle] = deque()  # those that are ready, and have nothing to do
        self._has_one_begun = False
        self._refused: list[str] = []  # why workers could not start
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._alone: deque[Task] = deque()  # a worker ended with these: they are given out one by one
        self._seconds_each = BUNDLE_SECONDS  # that a video takes
        self._looked = self._complained = float("-inf")
        self._shown: deque[str] = deque(maxlen=REMEMBERED)  # of what workers logged

    def has_room(self) -> bool:
        return not self._alone and len(self._waiting) < self._bundle_size * max(1, len(self._free))

    def is_idle(self) -> bool:
        return not (self._completed or self._waiting or self._alone or any(worker.bundle for worker in self._workers))

    def submit(self, task: Task) -> None:
        self._waiting.append(task)
        if len(self._waiting) >= self._bundle_size:
            self._assign()

    def shutdown(self) -> None:
        self._end(self._workers)
        if self._is_ours:
            self._ray.shutdown()

    @property
    def _bundle_size(self) -> int:
        return max(1, min(LARGEST_BUNDLE, int(BUNDLE_SECONDS / self._seconds_each)))

    def _assign(self) -> None:
        """Give bundles to workers that are free, and look for more workers where that is not enough."""
        while self._free and (self._alone or self._waiting):
            worker = self._free.pop()
            if self._alone:
                worker.bundle = [self._alone.popleft()]
            else:
                share = -(-len(self._waiting) // (len(self._free) + 1))
                worker.bundle = [self._waiting.popleft() for _ in range(min(share, self._bundle_size))]
            self._await(worker, worker.actor.extract.remote(worker.bundle), is_bundle=True)
        if (self._alone or self._waiting) and time.monotonic() - self._looked > LOOK_EVERY_SECONDS:
            self._looked = time.monotonic()
            self._hire()

    def _hire(self) -> None:
        """Ask for as many workers as there is room for; those for which there is none yet come when there is."""
        if self._actors is None:
            self._is_ours = connect(self._ray, self._config.run.address)
            cpus, gpus = share_of_worker(self._config.run, self._nodes())
            options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": STARTS - 1, "max_concurrency": 2}
            self._actors = self._ray.remote(**options, scheduling_strategy="SPREAD")(Worker)
            self._cpus, self._gpus = cpus, gpus
            if not gpus:  # Ray does not hide those that there are
                self._config = replace(self._config, run=replace(self._config.run, device="cpu"))
        room = room_for(self._cpus, self._gpus, self._nodes())
        if not room and time.monotonic() - self._complained > COMPLAIN_EVERY_SECONDS:
            self._complained = time.monotonic()
            log.warning(
                "no machine of the cluster has room for a worker of %g CPUs and %g GPUs (cpus_per_worker, "
                "gpus_per_worker); waiting for one that has",
                self._cpus,
                self._gpus,
            )
        wanted = self._config.run.workers or max(1, room)
        for _ in range(wanted - len(self._workers) - len(self._refused)):
            worker = WorkerHandle(self._actors.remote(self._config, self._cpus, str(Path.cwd())))
            self._workers.append(worker)
            self._await_ready(worker)

    def _check_workers(self) -> None:
        """End workers that have had nothing to do for a while, so that a cluster that scales itself can shrink."""
        before = time.monotonic() - IDLE_SECONDS
        if not self._waiting and not self._alone and self._free and self._free[0].free_since < before:
            self._end([self._free.popleft()])

    def _end(self, workers: list[WorkerHandle]) -> None:
        calls = {worker.actor.stop.remote(): worker for worker in workers if worker.is_ready}
        unanswered = list(calls)
        if unanswered:
            _, unanswered = self._ray.wait(unanswered, num_returns=len(unanswered), timeout=SHUTDOWN_SECONDS)
        for worker in workers:
            self._ray.kill(worker.actor)
        for call in unanswered:
            self._on_worker_lost(calls[call].bundle)
        self._workers = [worker for worker in self._workers if worker not in workers]

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _await_ready(self, worker: WorkerHandle) -> None:
        """Wait for a worker, which Ray starts again where it ended, until it has ended too often."""
        worker.is_ready = False
        self._await(worker, worker.actor.ready.options(max_task_retries=-1).remote(), is_bundle=False)

    def _await(self, worker: WorkerHandle, call: Any, *, is_bundle: bool) -> None:
        call.future().add_done_callback(lambda future: self._answers.put(Answer(worker, is_bundle, future)))

    def _listen(self, seconds: float) -> None:
        try:
            self._handle(self._answers.get(timeout=seconds) if seconds else self._answers.get_nowait())
            while True:
                self._handle(self._answers.get_nowait())
        except Empty:
            pass

    def _handle(self, answer: Answer) -> None:
        worker, error = answer.worker, answer.future.exception()
        match answer.future.result() if error is None else error:
            case WorkerReady() as ready:
                worker.node = ready.node
                worker.is_ready = self._has_one_begun = True
                self._log(ready.logged)
                self._set_free(worker)
            case BundleDone() as done:
                self._handle_bundle(worker, done)
            case self._ray.exceptions.RayTaskError():
                self._dismiss(worker, _why(error))
            case _ if answer.is_bundle:
                self._handle_exit(worker, _why(error))
            case _:
                why = f"it ended before it could begin ({_why(error)})"
                self._dismiss(worker, why, for_good=not self._has_one_begun)

    def _handle_bundle(self, worker: WorkerHandle, done: BundleDone) -> None:
        self._log(done.logged)
        for task, outcomes in zip(worker.bundle, done.outcomes, strict=True):
            self._complete(task, outcomes)
        self._seconds_each = (self._seconds_each + done.elapsed_seconds / len(worker.bundle)) / 2
        worker.bundle = []
        self._set_free(worker)
        self._observer.timed(done.seconds)

    def _log(self, logged: list[Logged]) -> None:
        """Log what a worker logged, once where several did."""
        for one in logged:
            if one.message not in self._shown:
                self._shown.append(one.message)
                log.log(one.level, "%s", one.message)

    def _set_free(self, worker: WorkerHandle) -> None:
        worker.free_since = time.monotonic()
        self._free.append(worker)

    def _handle_exit(self, worker: WorkerHandle, why: str) -> None:
        """Give the tasks of a worker that ended to others; all are suspected, unless its node is gone."""
        is_nodes_fault = worker.node not in [node["NodeID"] for node in self._nodes()]
        bundle, worker.bundle = worker.bundle, []
        self._on_worker_lost(bundle)
        self._alone.extend(self._worker_ended(bundle, [] if is_nodes_fault else bundle, why))
        others = f" and {len(bundle) - 1} more" if len(bundle) > 1 else ""
        log.warning("%s%s: the worker that was at it ended (%s)", printable(bundle[0].location), others, why)
        self._await_ready(worker)

    def _dismiss(self, worker: WorkerHandle, why: str, *, for_good: bool = True) -> None:
        """Go on without a worker that cannot work.

        for_good: whether another in its place would fare no better. Raises VideoFeaturesError where it was the last one
        """
        self._alone.extend(self._worker_ended(worker.bundle, [], why))
        self._workers.remove(worker)
        self._ray.kill(worker.actor)
        if for_good:
            self._refused.append(why)
        if for_good and not self._workers:
            raise VideoFeaturesError(f"no worker can work on the Ray cluster: {why}")
        log.warning("a worker cannot work: %s; %s", why, "the others go on" if for_good else "another one is asked for")


def _why(error: BaseException | None) -> str:
    """What Ray says of an error, without its tables and tracebacks, which come before it."""
    lines = [line.strip() for line in str(getattr(error, "cause", error)).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
