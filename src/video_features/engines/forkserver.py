"""The server that worker processes are forked from on Linux. It has imported what every worker needs."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable

from ..runtimes.choose import has_openvino
from ..runtimes.devices import may_have_gpu
from ..settings import FeatureSettings, RunSettings
from ..signals import signals_blocked

PACKAGE = __name__.partition(".")[0]


def start_method() -> str:
    """Return how `multiprocessing` starts worker processes."""
    return "forkserver" if sys.platform == "linux" else "spawn"


def start_server(run: RunSettings, features: Iterable[FeatureSettings]) -> None:
    """Start the server, which imports while this process goes on. Does nothing on other systems, or if it is running.

    The server imports libraries, but never uses a GPU or a thread.
    """
    if start_method() != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker  # not on every system

    runtimes = {_likely_runtime(name, settings) for name in run.device_names for settings in features}
    multiprocessing.set_forkserver_preload(
        [f"{PACKAGE}.engines.worker", *(f"{PACKAGE}.runtimes.{name}" for name in sorted(runtimes))]
    )
    resource_tracker.ensure_running()  # before signals are blocked: its start unblocks them
    with signals_blocked(always=True):
        forkserver.ensure_running()


def _likely_runtime(device: str | None, settings: FeatureSettings) -> str:
    """Return the module of the runtime that a worker will probably use. Another one is imported by the worker."""
    on_cpu = device == "cpu" or (device is None and not may_have_gpu())
    if settings.runtime in ("auto", "openvino") and on_cpu and settings.precision != "fp16" and has_openvino():
        return "openvino"
    return "pytorch"
