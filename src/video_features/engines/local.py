"""Choose the executor for one machine: a thread of this process, or worker processes."""

from __future__ import annotations

from ..runtimes.devices import choose_device
from ..tasks.work import Work, WorkerConfig
from .base import Executor, Observer
from .process import ProcessExecutor
from .thread import ThreadExecutor


def local_executor(config: WorkerConfig, work: Work, observer: Observer, *, threads: int | None = None) -> Executor:
    """Make the executor that the run's settings ask for.

    work: built from `config` in this process, with no networks loaded yet
    threads: CPU threads of a single worker process; None: all
    """
    run = config.run
    if not run.in_processes:
        return ThreadExecutor(work, choose_device(run.device), observer, config.max_in_progress)
    return ProcessExecutor(
        config,
        run.device_names,
        observer,
        on_worker_lost=work.bookkeeping.remove_leftovers,
        max_in_progress=config.max_in_progress,
        time_limit=run.time_limit_seconds,
        stall_limit=run.stall_limit_seconds,
        threads=threads,
    )
