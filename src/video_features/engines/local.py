"""Which executor this machine uses: a thread of this process, or processes."""

from __future__ import annotations

from ..runtimes.devices import choose_device
from ..tasks.work import Work, WorkerConfig
from .base import Executor, Observer
from .process import ProcessExecutor
from .thread import ThreadExecutor


def local_executor(config: WorkerConfig, work: Work, observer: Observer, *, threads: int | None = None) -> Executor:
    """The executor that the settings of the run ask for.

    work: made of `config` in this process; its networks are not loaded yet
    threads: of a CPU, all by default
    """
    run = config.run
    if not run.in_processes:
        return ThreadExecutor(work, choose_device(run.device), observer, config.most_in_progress)
    return ProcessExecutor(
        config,
        run.device_names,
        observer,
        on_worker_lost=work.bookkeeping.remove_leftovers,
        most_in_progress=config.most_in_progress,
        time_limit=run.time_limit_seconds,
        stall_limit=run.stall_limit_seconds,
        threads=threads,
    )
