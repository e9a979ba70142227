"""The server that worker processes are forked from on Linux. It has imported what every worker needs.

This module imports little, because the command starts the server before anything else.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from contextlib import suppress

from ..runtimes.devices import has_openvino, may_have_gpu
from ..signals import signals_blocked

PACKAGE = __name__.partition(".")[0]
WITHOUT_WORKERS = {"-h", "--help", "--dry-run", "--dry_run", "--no-isolate", "--no_isolate", "ray"}


def start_method() -> str:
    """Return how `multiprocessing` starts worker processes."""
    return "forkserver" if sys.platform == "linux" else "spawn"


def start_server(*, on_cpu: bool = False) -> None:
    """Start the server, which imports while this process goes on. Does nothing on other systems, or if it is running.

    The server imports libraries, but never uses a GPU or a thread.

    on_cpu: True if the networks will run on the CPU; otherwise on a GPU if there may be one
    Raises OSError if the server cannot be started.
    """
    if start_method() != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker  # not on every system

    # The runtime that is likely. A worker that needs another one imports it.
    runtime = "openvino" if has_openvino() and (on_cpu or not may_have_gpu()) else "pytorch"
    multiprocessing.set_forkserver_preload([f"{PACKAGE}.engines.worker", f"{PACKAGE}.runtimes.{runtime}"])
    resource_tracker.ensure_running()  # before signals are blocked: its start unblocks them
    with signals_blocked(always=True):
        forkserver.ensure_running()


def start_early(words: Sequence[str]) -> None:
    """Start the server at once if a command line will probably need it, before the command itself is imported.

    words: the words after `video-features`
    """
    if words[:1] == ["extract"] and len(words) > 2 and not WITHOUT_WORKERS.intersection(words):
        with suppress(OSError):  # the run says so, if it gets that far
            start_server(on_cpu="cpu" in words)
