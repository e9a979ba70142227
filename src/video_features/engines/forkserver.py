"""The server that worker processes are forked from on Linux. It imports the libraries that every worker needs."""

from __future__ import annotations

import multiprocessing
import sys

from ..signals import signals_blocked

PRELOADED = f"{__name__.rpartition('.')[0]}.worker"  # imported in the server, which never uses a GPU or a thread


def start_method() -> str:
    """Return how worker processes are started, for `multiprocessing`."""
    if sys.platform != "linux":
        return "spawn"
    multiprocessing.set_forkserver_preload([PRELOADED])
    return "forkserver"


def start_early() -> None:
    """Start the server, which imports its libraries while this process goes on. Elsewhere than on Linux, do nothing."""
    if start_method() == "forkserver":
        from multiprocessing import forkserver, resource_tracker  # not on every system

        resource_tracker.ensure_running()  # before signals are blocked: its start unblocks them
        with signals_blocked(always=True):
            forkserver.ensure_running()
