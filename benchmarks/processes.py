"""Runs a command and measures it: seconds, its first output, and the memory of all its processes. Linux only."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.005
SAMPLE_SECONDS = 0.02
LONGEST_WAIT_SECONDS = 10


@dataclass(frozen=True)
class Run:
    """What a command took.

    seconds: from its start to its exit
    first: from its start to its first output
    peak: MB, the largest sum of the memory of all processes at one time; 0 if it was not sampled
    """

    seconds: float
    first: float
    peak: float = 0


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    has_output: Callable[[], bool],
    *,
    samples_memory: bool = False,
) -> Run:
    """Run a command in a session of its own. Raises SystemExit if it fails, ends without output, or leaves
    processes.

    Sampling slows the command down, because the kernel walks through all pages: do not use its seconds then.
    """
    first, peak, interval = 0.0, 0.0, SAMPLE_SECONDS if samples_memory else POLL_SECONDS
    with tempfile.TemporaryFile() as messages:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, stdout=messages, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while process.poll() is None:
                if samples_memory:
                    peak = max(peak, session_mb(process.pid))
                if not first and has_output():
                    first = time.perf_counter() - started
                time.sleep(interval)
            seconds = time.perf_counter() - started
            _wait_for_others(process.pid, command)
        finally:
            for left in _processes_of(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(int(left.name), signal.SIGKILL)
        if process.returncode or not has_output():
            messages.seek(0)
            text = messages.read().decode(errors="replace")[-4000:]
            what = f"exit status {process.returncode}" if process.returncode else "no output"
            raise SystemExit(f"{' '.join(command)}\nended with {what}:\n{text}")
    return Run(seconds, first or seconds, peak)


def session_mb(session: int) -> float:
    """Return the memory in MB of all processes of a session.

    It is the sum of their proportional set sizes (PSS): a page that several processes share counts once in total. Pages
    that are shared with processes outside the session, such as the code of a library, count in part.
    """
    return sum(map(_pss_kb, _processes_of(session))) / 1024


def _wait_for_others(session: int, command: Sequence[str]) -> None:
    """Wait until the other processes of a session have ended, because they would slow down the next command."""
    deadline = time.perf_counter() + LONGEST_WAIT_SECONDS
    while left := _processes_of(session):
        if time.perf_counter() > deadline:
            raise SystemExit(f"{' '.join(command)}\nended, but left the processes {', '.join(p.name for p in left)}")
        time.sleep(POLL_SECONDS)


def _processes_of(session: int) -> list[Path]:
    """Return the folders in /proc of all running processes of a session."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended
            stat = (process / "stat").read_text(errors="replace")
            state, _, _, its_session = stat.rpartition(")")[2].split()[:4]  # after the name in parentheses
            if int(its_session) == session and state != "Z":
                found.append(process)
    return found


def _pss_kb(process: Path) -> int:
    with suppress(OSError):  # the process has ended
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
