"""Which engine a run has, what must be there for it, and its executor."""

from __future__ import annotations

import torch

from ..errors import SettingsError
from ..locations import Location
from ..runtimes.devices import choose_device
from ..settings import RunSettings
from ..tasks.work import Work, WorkerConfig
from .base import Executor, Observer
from .local import local_executor


def devices_of(run: RunSettings) -> list[torch.device]:
    """The devices of this machine that a run uses; none on a cluster, whose workers choose theirs.

    Raises SettingsError where a device, or the library of the engine, is not here.
    """
    if run.engine == "ray":
        from .ray.cluster import import_ray

        import_ray()
        return []
    return [choose_device(name) for name in run.device_names]


def check_root(run: RunSettings, root: Location | None) -> None:
    """Raise SettingsError where the engine needs an output path, and there is none. root: of the outputs"""
    if root is None and run.engine == "ray":
        raise SettingsError(
            "engine=ray needs an output_path that its workers can write to, and on_extraction=save_numpy or "
            "save_pickle: features do not come back over the network"
        )


def choose_executor(config: WorkerConfig, work: Work, observer: Observer) -> Executor:
    """The executor of a run. work: made of `config` in this process; its networks need not be loaded"""
    if config.run.engine == "ray":
        from .ray.engine import RayExecutor

        return RayExecutor(config, observer, on_worker_lost=work.bookkeeping.remove_leftovers)
    return local_executor(config, work, observer)
