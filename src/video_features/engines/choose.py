"""Choose the engine of a run: check what it needs, and make its executor."""

from __future__ import annotations

from ..errors import SettingsError
from ..locations import Location
from ..runtimes.devices import Device, choose_device
from ..settings import RunSettings
from ..tasks.work import Work, WorkerConfig
from .base import Executor, Observer
from .local import local_executor


def devices_of(run: RunSettings) -> list[Device]:
    """The devices of this machine that a run uses; none with a cluster, whose workers choose their own devices.

    Raises SettingsError if a device or the engine's library is not available.
    """
    if run.engine == "ray":
        from .ray.cluster import import_ray

        import_ray()
        return []
    return [choose_device(name) for name in run.device_names]


def check_root(run: RunSettings, root: Location | None) -> None:
    """Raise SettingsError if the engine needs an output path and there is none. root: where the outputs go"""
    if root is None and run.engine == "ray":
        raise SettingsError(
            "engine=ray needs an output_path that its workers can write to, and on_extraction=save_numpy or "
            "save_pickle: features are not sent back over the network"
        )


def choose_executor(config: WorkerConfig, work: Work, observer: Observer) -> Executor:
    """Make the executor of a run. work: built from `config` in this process; its networks need not be loaded"""
    if config.run.engine == "ray":
        from .ray.engine import RayExecutor

        return RayExecutor(config, observer, on_worker_lost=work.bookkeeping.remove_leftovers)
    return local_executor(config, work, observer)
