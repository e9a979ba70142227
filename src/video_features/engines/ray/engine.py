"""Run tasks on the machines of a Ray cluster.

Ray places the workers, restarts a worker when it or its machine dies, and reports lost calls. This module hands out the
tasks in bundles, and gives the tasks of a lost worker to other workers. Only tasks and outcomes go over the network:
each worker decodes, computes and writes by itself.
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

MAX_STARTS = 3  # of a worker, by Ray; then the worker is replaced, if any worker has ever started
REMEMBERED_MESSAGES = 1000  # logged by workers; a repeated message is shown once
BUNDLE_SECONDS = 10.0  # target time for a bundle of tasks
LARGEST_BUNDLE = 64  # tasks
IDLE_SECONDS = 60.0  # after which an idle worker is ended
WARN_EVERY_SECONDS = 60.0  # while the cluster has no room for any worker
HIRE_EVERY_SECONDS = 5.0  # between looks for room for more workers


@dataclass(eq=False)
class WorkerHandle:
    """A worker, as the scheduling process sees it.

    actor: Ray's handle of the worker
    is_ready: whether the worker has started
    node: Ray's ID of the worker's node, once the worker has started
    bundle: the tasks that the worker is working on
    free_since: when the worker became free, in seconds on the monotonic clock
    """

    actor: Any
    is_ready: bool = False
    node: str = ""
    bundle: list[Task] = field(default_factory=list)
    free_since: float = 0.0


@dataclass(frozen=True)
class CallResult:
    """The result of a call to a worker: `WorkerReady`, `BundleDone`, or an error that Ray raised."""

    worker: WorkerHandle
    is_bundle: bool
    future: Future[Any]


class RayExecutor(WorkerPool):
    """Runs bundles of tasks in the workers of a Ray cluster, one bundle per worker at a time. See `Executor`.

    A bundle is sized to take about ten seconds, judging by how long videos have taken so far; if videos are long, it is
    one video. When a worker dies, the videos of its bundle are retried one by one, to find the video to blame.
    """

    worker_name = "worker"
    tries = 3

    def __init__(self, config: WorkerConfig, observer: Observer, on_worker_lost: OnWorkerLost) -> None:
        # Without the paths of verified weights, as paths may differ on other machines.
        super().__init__(WorkerConfig(config.by_feature, config.run), observer, on_worker_lost)
        self._ray = import_ray()
        self._has_connected = False  # whether this run connected to the cluster, and has to disconnect
        self._actor_class: Any = None  # Ray's class of workers
        self._workers: list[WorkerHandle] = []
        self._free: deque[WorkerHandle] = deque()  # started, with no bundle
        self._has_any_started = False
        self._start_failures: list[str] = []  # why workers could not start, each for good
        self._results: SimpleQueue[CallResult] = SimpleQueue()
        self._retried: deque[Task] = deque()  # tasks of workers that died, which are handed out one by one
        self._seconds_per_task = BUNDLE_SECONDS  # a running average
        self._hired_at = self._warned_at = float("-inf")  # on the monotonic clock
        self._logged: deque[str] = deque(maxlen=REMEMBERED_MESSAGES)

    def has_room(self) -> bool:
        return not self._retried and len(self._waiting) < self._bundle_size * max(1, len(self._free))

    def is_idle(self) -> bool:
        return not (self._completed or self._waiting or self._retried or any(worker.bundle for worker in self._workers))

    def submit(self, task: Task) -> None:
        self._waiting.append(task)
        if len(self._waiting) >= self._bundle_size:
            self._assign()

    def shutdown(self) -> None:
        self._end(self._workers)
        if self._has_connected:
            self._ray.shutdown()

    @property
    def _bundle_size(self) -> int:
        return max(1, min(LARGEST_BUNDLE, int(BUNDLE_SECONDS / self._seconds_per_task)))

    def _assign(self) -> None:
        """Give bundles to free workers, and hire more workers if tasks are left."""
        while self._free and (self._retried or self._waiting):
            worker = self._free.pop()
            if self._retried:
                worker.bundle = [self._retried.popleft()]
            else:
                share = -(-len(self._waiting) // (len(self._free) + 1))
                worker.bundle = [self._waiting.popleft() for _ in range(min(share, self._bundle_size))]
            self._await(worker, worker.actor.extract.remote(worker.bundle), is_bundle=True)
        if (self._retried or self._waiting) and time.monotonic() - self._hired_at > HIRE_EVERY_SECONDS:
            self._hired_at = time.monotonic()
            self._hire()

    def _hire(self) -> None:
        """Request as many workers as the cluster has room for, at least one. Ray starts each as soon as it fits."""
        if self._actor_class is None:
            self._has_connected = connect(self._ray, self._config.run.address)
            self._observer.ready("ray", "Ray cluster")
            cpus, gpus = share_of_worker(self._config.run, self._nodes())
            options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": MAX_STARTS - 1, "max_concurrency": 2}
            self._actor_class = self._ray.remote(**options, scheduling_strategy="SPREAD")(Worker)
            self._cpus, self._gpus = cpus, gpus
            if not gpus:  # Ray does not hide the GPUs of a node
                self._config = replace(self._config, run=replace(self._config.run, device="cpu"))
        room = room_for(self._cpus, self._gpus, self._nodes())
        if not room and time.monotonic() - self._warned_at > WARN_EVERY_SECONDS:
            self._warned_at = time.monotonic()
            log.warning(
                "no node of the cluster has room for a worker with %g CPUs and %g GPUs (cpus_per_worker, "
                "gpus_per_worker); waiting for room",
                self._cpus,
                self._gpus,
            )
        wanted = self._config.run.workers or max(1, room)
        for _ in range(wanted - len(self._workers) - len(self._start_failures)):
            worker = WorkerHandle(self._actor_class.remote(self._config, self._cpus, str(Path.cwd())))
            self._workers.append(worker)
            self._await_ready(worker)

    def _check_workers(self) -> None:
        """End a worker that has been idle for IDLE_SECONDS, so that an autoscaling cluster can shrink."""
        idle_since = time.monotonic() - IDLE_SECONDS
        if not self._waiting and not self._retried and self._free and self._free[0].free_since < idle_since:
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
        """Wait for a worker to start. Ray restarts a worker that dies, up to MAX_STARTS starts."""
        worker.is_ready = False
        self._await(worker, worker.actor.ready.options(max_task_retries=-1).remote(), is_bundle=False)

    def _await(self, worker: WorkerHandle, call: Any, *, is_bundle: bool) -> None:
        call.future().add_done_callback(lambda future: self._results.put(CallResult(worker, is_bundle, future)))

    def _listen(self, seconds: float) -> None:
        try:
            self._handle(self._results.get(timeout=seconds) if seconds else self._results.get_nowait())
            while True:
                self._handle(self._results.get_nowait())
        except Empty:
            pass

    def _handle(self, result: CallResult) -> None:
        worker, error = result.worker, result.future.exception()
        match result.future.result() if error is None else error:
            case WorkerReady() as ready:
                worker.node = ready.node
                worker.is_ready = self._has_any_started = True
                self._log(ready.logged)
                self._set_free(worker)
            case BundleDone() as done:
                self._handle_bundle(worker, done)
            case self._ray.exceptions.RayTaskError():
                self._remove(worker, _reason(error))
            case _ if result.is_bundle:
                self._handle_exit(worker, _reason(error))
            case _:
                reason = f"it died while starting ({_reason(error)})"
                self._remove(worker, reason, is_permanent=not self._has_any_started)

    def _handle_bundle(self, worker: WorkerHandle, done: BundleDone) -> None:
        self._log(done.logged)
        for task, outcomes in zip(worker.bundle, done.outcomes, strict=True):
            self._complete(task, outcomes)
        self._seconds_per_task = (self._seconds_per_task + done.elapsed_seconds / len(worker.bundle)) / 2
        worker.bundle = []
        self._set_free(worker)
        self._observer.timed(done.seconds)

    def _log(self, logged: list[Logged]) -> None:
        """Log the messages of a worker, leaving out those that any worker has logged before."""
        for entry in logged:
            if entry.message not in self._logged:
                self._logged.append(entry.message)
                log.log(entry.level, "%s", entry.message)

    def _set_free(self, worker: WorkerHandle) -> None:
        worker.free_since = time.monotonic()
        self._free.append(worker)

    def _handle_exit(self, worker: WorkerHandle, reason: str) -> None:
        """Retry the tasks of a worker that died. All of them are suspected, unless the worker's node is gone."""
        is_node_lost = worker.node not in [node["NodeID"] for node in self._nodes()]
        bundle, worker.bundle = worker.bundle, []
        self._on_worker_lost(bundle)
        self._retried.extend(self._worker_ended(bundle, [] if is_node_lost else bundle, reason))
        others = f" and {len(bundle) - 1} more" if len(bundle) > 1 else ""
        log.warning("%s%s: the worker died (%s)", printable(bundle[0].location), others, reason)
        self._await_ready(worker)

    def _remove(self, worker: WorkerHandle, reason: str, *, is_permanent: bool = True) -> None:
        """Continue without a worker that cannot start.

        is_permanent: whether a replacement would fail, too
        Raises VideoFeaturesError if the failure is permanent and this was the last worker.
        """
        self._retried.extend(self._worker_ended(worker.bundle, [], reason))
        self._workers.remove(worker)
        self._ray.kill(worker.actor)
        if is_permanent:
            self._start_failures.append(reason)
        if is_permanent and not self._workers:
            raise VideoFeaturesError(f"no worker can start on the Ray cluster: {reason}")
        next_step = "continuing with the other workers" if is_permanent else "requesting another worker"
        log.warning("a worker cannot start: %s; %s", reason, next_step)


def _reason(error: BaseException | None) -> str:
    """Ray's message for an error: its last line, which comes after tables and tracebacks."""
    lines = [line.strip() for line in str(getattr(error, "cause", error)).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
