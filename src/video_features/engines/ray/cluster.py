"""Connect to a Ray cluster, and compute how many workers fit on it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import SettingsError, in_one_line
from ...runtimes.memory import DEFAULT_CPUS_PER_WORKER
from ...settings import RunSettings

# Outcomes and forwarded log messages report everything that a user needs.
QUIET: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}


def import_ray() -> Any:
    """Import Ray and return the module. Raises SettingsError if Ray is not installed."""
    try:
        import ray
    except ImportError:
        raise SettingsError('engine=ray needs the extra: pip install "video_features[ray]"') from None
    return ray


def connect(ray: Any, address: str | None) -> bool:
    """Connect to a cluster, unless this process is connected already. Returns whether this call connected.

    address: of the cluster; None: a running cluster that Ray finds, else one on this machine for this run only
    Raises SettingsError if no cluster can be reached.
    """
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
            options = {"include_dashboard": False} if address == "local" else {}
            ray.init(address, **QUIET, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"address={address}: no Ray cluster can be reached ({in_one_line(error)}); start one with "
            "`ray start --head`, or use address=local to start one for this run only"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's handler exits at once and leaves half-written files
    return True


def share_of_worker(run: RunSettings, nodes: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """How many CPUs and GPUs each worker gets, given the settings of the run and the nodes of the cluster."""
    with_gpus = [node["Resources"] for node in nodes if node["Resources"].get("GPU", 0)]
    gpus = run.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if with_gpus and run.device != "cpu" else 0.0
    if run.cpus_per_worker is not None:
        return run.cpus_per_worker, gpus
    if gpus and with_gpus:
        return max(1.0, min(node.get("CPU", 0) * gpus / node["GPU"] for node in with_gpus) // 1), gpus
    largest = max((node["Resources"].get("CPU", 0) for node in nodes), default=0)
    return max(1.0, min(DEFAULT_CPUS_PER_WORKER, largest)) if largest else DEFAULT_CPUS_PER_WORKER, gpus


def room_for(cpus: float, gpus: float, nodes: Sequence[Mapping[str, Any]]) -> int:
    """How many workers fit on the nodes, if each worker needs this many CPUs and GPUs."""
    per_node = []
    for node in nodes:
        by_cpus = node["Resources"].get("CPU", 0) / cpus
        per_node.append(int(min(by_cpus, node["Resources"].get("GPU", 0) / gpus) if gpus else by_cpus))
    return sum(per_node)
