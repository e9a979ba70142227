"""Videos on the machines of a Ray cluster. Ray places workers, starts them anew where one or its machine died, and
tells which calls were lost; here they are given bundles of videos, and what was lost is given to others.

Nothing but tasks and outcomes goes over the network: a worker decodes, computes and writes for itself.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .errors import VideoFeaturesError, printable
from .features import Outcome
from .lists import Task
from .places import LISTEN_SECONDS, Watch
from .processes import SHUTDOWN_SECONDS
from .ray_cluster import connect, import_ray, room_for, share_of_worker
from .ray_worker import Report, Worker
from .work import Recipe, failed

log = logging.getLogger(__name__)

TRIES = 3  # of a video with which a worker ends
STARTS = 3  # of a worker, by Ray; then another one is hired, if any could ever begin
REMEMBERED = 1000  # warnings of workers, each of which is told once
BUNDLE_SECONDS = 10.0  # that a bundle of videos should take
LARGEST_BUNDLE = 64
IDLE_SECONDS = 60.0  # after which a worker is let go
COMPLAIN_EVERY_SECONDS = 60.0  # that there is no room for any
LOOK_EVERY_SECONDS = 5.0  # for room for more workers


@dataclass(eq=False)
class Hired:
    """A worker as the run's first process sees it.

    actor: Ray's handle of it
    is_ready: whether it has told that it can begin, and where
    node: of the cluster, that it is on
    bundle: the tasks that it is at
    free_since: on the monotonic clock, where there are none
    """

    actor: Any
    is_ready: bool = False
    node: str = ""
    bundle: list[Task] = field(default_factory=list)
    free_since: float = 0.0


class OnRay:
    """Does tasks in workers of a Ray cluster, a bundle of them at a time in each. See `Place`.

    recipe: what each worker makes for itself
    on_death: told of the tasks that a worker did not live to end, and may have left half done

    A bundle is so large that it takes some ten seconds, as far as videos took so far; of long videos it is one. The
    videos of a bundle with which a worker ended go to others one by one, so that the one that is at fault is found.
    """

    keeps_order = False

    def __init__(self, recipe: Recipe, watch: Watch, on_death: Callable[[Collection[Task]], object]) -> None:
        self._ray = import_ray()
        self._recipe = Recipe(recipe.by_feature, recipe.run)  # weights may lie elsewhere on other machines
        self._watch = watch
        self._on_death = on_death
        self._is_ours = False  # the connection to the cluster
        self._actors: Any = None  # Ray's class of workers
        self._hired: list[Hired] = []
        self._free: deque[Hired] = deque()  # those that are ready, and have nothing to do
        self._has_one_begun = False
        self._refused: list[str] = []  # why workers could not start
        self._said: SimpleQueue[tuple[Hired, str, Future[Any]]] = SimpleQueue()
        self._waiting: deque[Task] = deque()
        self._alone: deque[Task] = deque()  # a worker ended with these
        self._tries: dict[int, int] = {}  # by a task's identity
        self._over: list[tuple[Task, list[Outcome]]] = []
        self._seconds_each = BUNDLE_SECONDS  # that a video takes
        self._looked = self._complained = float("-inf")
        self._told: deque[str] = deque(maxlen=REMEMBERED)  # of what workers said

    def has_room(self) -> bool:
        return not self._alone and len(self._waiting) < self._bundle_size * max(1, len(self._free))

    def is_idle(self) -> bool:
        return not (self._over or self._waiting or self._alone or any(worker.bundle for worker in self._hired))

    def begin(self, task: Task) -> None:
        self._waiting.append(task)
        if len(self._waiting) >= self._bundle_size:
            self._give_out()

    def ended(self, timeout: float | None = None) -> Iterator[tuple[Task, list[Outcome]]]:
        """Where a worker has become free there is room for more, so that it does not wait for the others."""
        until = None if timeout is None else time.monotonic() + timeout
        if timeout != 0:
            self._give_out()
        had_room = self.has_room()
        while not self._over and not self.is_idle():
            self._listen(LISTEN_SECONDS if until is None else max(0.0, min(LISTEN_SECONDS, until - time.monotonic())))
            if timeout != 0:
                self._give_out()
            self._let_go()
            if (until is not None and time.monotonic() >= until) or (self.has_room() and not had_room):
                break
        over, self._over = self._over, []
        yield from over

    def stop(self) -> None:
        self._end(self._hired)
        if self._is_ours:
            self._ray.shutdown()

    @property
    def _bundle_size(self) -> int:
        return max(1, min(LARGEST_BUNDLE, int(BUNDLE_SECONDS / self._seconds_each)))

    def _give_out(self) -> None:
        """Give bundles to workers that are free, and look for more workers where that is not enough."""
        while self._free and (self._alone or self._waiting):
            worker = self._free.pop()
            if self._alone:
                worker.bundle = [self._alone.popleft()]
            else:
                share = -(-len(self._waiting) // (len(self._free) + 1))
                worker.bundle = [self._waiting.popleft() for _ in range(min(share, self._bundle_size))]
            self._ask(worker, "extracted", worker.actor.extract.remote(worker.bundle))
        if (self._alone or self._waiting) and time.monotonic() - self._looked > LOOK_EVERY_SECONDS:
            self._looked = time.monotonic()
            self._hire()

    def _hire(self) -> None:
        """Ask for as many workers as there is room for; those for which there is none yet come when there is."""
        if self._actors is None:
            self._is_ours = connect(self._ray, self._recipe.run.address)
            cpus, gpus = share_of_worker(self._recipe.run, self._nodes())
            options = {"num_cpus": cpus, "num_gpus": gpus, "max_restarts": STARTS - 1, "max_concurrency": 2}
            self._actors = self._ray.remote(**options, scheduling_strategy="SPREAD")(Worker)
            self._cpus, self._gpus = cpus, gpus
            if not gpus:  # Ray does not hide those that there are
                self._recipe = replace(self._recipe, run=replace(self._recipe.run, device="cpu"))
        room = room_for(self._cpus, self._gpus, self._nodes())
        if not room and time.monotonic() - self._complained > COMPLAIN_EVERY_SECONDS:
            self._complained = time.monotonic()
            log.warning(
                "no machine of the cluster has room for a worker of %g CPUs and %g GPUs (cpus_per_worker, "
                "gpus_per_worker); waiting for one that has",
                self._cpus,
                self._gpus,
            )
        wanted = self._recipe.run.workers or max(1, room)
        for _ in range(wanted - len(self._hired) - len(self._refused)):
            worker = Hired(self._actors.remote(self._recipe, self._cpus, str(Path.cwd())))
            self._hired.append(worker)
            self._await(worker)

    def _let_go(self) -> None:
        """End workers that have had nothing to do for a while, so that a cluster that scales itself can shrink."""
        before = time.monotonic() - IDLE_SECONDS
        if not self._waiting and not self._alone and self._free and self._free[0].free_since < before:
            self._end([self._free.popleft()])

    def _end(self, workers: list[Hired]) -> None:
        answers = {worker.actor.stop.remote(): worker for worker in workers if worker.is_ready}
        silent = list(answers)
        if silent:
            _, silent = self._ray.wait(silent, num_returns=len(silent), timeout=SHUTDOWN_SECONDS)
        for worker in workers:
            self._ray.kill(worker.actor)
        for answer in silent:
            self._on_death(answers[answer].bundle)
        self._hired = [worker for worker in self._hired if worker not in workers]

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _await(self, worker: Hired) -> None:
        """Hear of it when a worker is ready, which Ray starts anew where it ended, or has ended too often."""
        worker.is_ready = False
        self._ask(worker, "ready", worker.actor.ready.options(max_task_retries=-1).remote())

    def _ask(self, worker: Hired, what: str, answer: Any) -> None:
        answer.future().add_done_callback(lambda found: self._said.put((worker, what, found)))

    def _listen(self, timeout: float) -> None:
        """Hear all that workers have to say, and wait for it for so many seconds."""
        try:
            self._hear(*self._said.get(timeout=timeout) if timeout else self._said.get_nowait())
            while True:
                self._hear(*self._said.get_nowait())
        except Empty:
            pass

    def _hear(self, worker: Hired, what: str, answer: Future[Any]) -> None:
        error = answer.exception()
        if error is None and what == "ready":
            worker.node, said = answer.result()
            worker.is_ready = self._has_one_begun = True
            self._repeat(said)
            self._is_free(worker)
        elif error is None:
            self._take(worker, answer.result())
        elif isinstance(error, self._ray.exceptions.RayTaskError):
            self._dismiss(worker, _why(error))
        elif what == "ready":
            why = f"it ended before it could begin ({_why(error)})"
            self._dismiss(worker, why, for_good=not self._has_one_begun)
        else:
            self._lost(worker, _why(error))

    def _take(self, worker: Hired, report: Report) -> None:
        self._repeat(report.said)
        for task, ends in zip(worker.bundle, report.outcomes, strict=True):
            if self._tries.pop(id(task), None) is not None:  # a worker may have made it that did not live to say so
                ends = [replace(end, status="done", reason="") if end.status == "skipped" else end for end in ends]
            self._over.append((task, ends))
        self._seconds_each = (self._seconds_each + report.took_seconds / len(worker.bundle)) / 2
        worker.bundle = []
        self._is_free(worker)
        self._watch.spent(report.seconds)

    def _repeat(self, said: list[tuple[int, str]]) -> None:
        """Log what a worker logged, once where several did."""
        for level, message in said:
            if message not in self._told:
                self._told.append(message)
                log.log(level, "%s", message)

    def _is_free(self, worker: Hired) -> None:
        worker.free_since = time.monotonic()
        self._free.append(worker)

    def _lost(self, worker: Hired, why: str) -> None:
        """A worker ended with its tasks: others get them, but those with which that happened too often."""
        is_nodes_fault = worker.node not in [node["NodeID"] for node in self._nodes()]
        bundle, worker.bundle = worker.bundle, []
        self._on_death(bundle)
        for task in bundle:
            tries = self._tries.pop(id(task), 0) + (not is_nodes_fault)
            if tries < TRIES:
                self._tries[id(task)] = tries
                self._alone.append(task)
                continue
            error = VideoFeaturesError(f"the worker that read it ended, {TRIES} times ({why})")
            self._over.append((task, [failed(task, feature, error) for feature in self._recipe.features]))
        others = f" and {len(bundle) - 1} more" if len(bundle) > 1 else ""
        log.warning("%s%s: the worker that was at it ended (%s)", printable(bundle[0].location), others, why)
        self._await(worker)

    def _dismiss(self, worker: Hired, why: str, *, for_good: bool = True) -> None:
        """Go on without a worker that cannot work.

        for_good: whether another in its place would fare no better. Raises VideoFeaturesError where it was the last one
        """
        for task in worker.bundle:
            self._tries.setdefault(id(task), 0)
            self._alone.append(task)
        self._hired.remove(worker)
        self._ray.kill(worker.actor)
        if for_good:
            self._refused.append(why)
        if for_good and not self._hired:
            raise VideoFeaturesError(f"no worker can work on the Ray cluster: {why}")
        log.warning("a worker cannot work: %s; %s", why, "the others go on" if for_good else "another one is asked for")


def _why(error: BaseException) -> str:
    """What Ray tells of an error, without its tables and tracebacks, which come before it."""
    lines = [line.strip() for line in str(getattr(error, "cause", error)).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
