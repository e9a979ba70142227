"""A Ray cluster: the way to it, and how many workers it has room for."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import SettingsError, in_one_line
from ...settings import RunSettings

CPUS = 4.0  # of a worker, by default
QUIET: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}  # what is told is told by outcomes


def import_ray() -> Any:
    """The library. Raises SettingsError where it is not installed."""
    try:
        import ray
    except ImportError:
        raise SettingsError("engine=ray needs the extra: pip install 'video_features[ray]'") from None
    return ray


def connect(ray: Any, address: str | None) -> bool:
    """Connect to a cluster where that is not done yet; whether it was not. Raises SettingsError where there is none."""
    if ray.is_initialized():
        return False
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            try:
                ray.init("auto", **QUIET)
            except ConnectionError:
                address = "local"
        if address is not None:
            alone = {"include_dashboard": False} if address == "local" else {}
            ray.init(address, **QUIET, **alone)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"address={address}: there is no Ray cluster to be reached ({in_one_line(error)}); `ray start --head` "
            "starts one, and address=local one for this run alone"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray leaves at once, whatever is half written
    return True


def share_of_worker(run: RunSettings, nodes: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """How many CPUs and GPUs a worker gets of the nodes that there are."""
    with_gpus = [node["Resources"] for node in nodes if node["Resources"].get("GPU", 0)]
    gpus = run.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if with_gpus and run.device != "cpu" else 0.0
    if run.cpus_per_worker is not None:
        return run.cpus_per_worker, gpus
    if gpus and with_gpus:
        return max(1.0, min(one.get("CPU", 0) * gpus / one["GPU"] for one in with_gpus) // 1), gpus
    largest = max((node["Resources"].get("CPU", 0) for node in nodes), default=0)
    return max(1.0, min(CPUS, largest)) if largest else CPUS, gpus


def room_for(cpus: float, gpus: float, nodes: Sequence[Mapping[str, Any]]) -> int:
    """How many workers of so many CPUs and GPUs fit on the nodes."""
    rooms = []
    for node in nodes:
        by_cpus = node["Resources"].get("CPU", 0) / cpus
        rooms.append(int(min(by_cpus, node["Resources"].get("GPU", 0) / gpus) if gpus else by_cpus))
    return sum(rooms)
