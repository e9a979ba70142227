"""Runs a command and measures it: seconds, its first output, and the memory of all its processes. Linux only."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_SECONDS = 0.005
SAMPLE_SECONDS = 0.02


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
    """Run a command in a session of its own. Raises SystemExit if it fails or ends without output.

    Sampling slows the command down, because the kernel walks through all pages: do not use its seconds then.
    """
    first, peak, interval = 0.0, 0.0, SAMPLE_SECONDS if samples_memory else POLL_SECONDS
    with tempfile.TemporaryFile() as messages:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, stdout=messages, stderr=subprocess.STDOUT, start_new_session=True
        )
        while process.poll() is None:
            if samples_memory:
                peak = max(peak, session_mb(process.pid))
            if not first and has_output():
                first = time.perf_counter() - started
            time.sleep(interval)
        seconds = time.perf_counter() - started
        first = first or seconds
        if process.returncode or not has_output():
            messages.seek(0)
            text = messages.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)}\nends with exit status {process.returncode}:\n{text[-4000:]}")
    return Run(seconds, first, peak)


def session_mb(session: int) -> float:
    """Return the memory in MB of all processes of a session.

    It is the sum of their proportional set sizes (PSS): a page that several processes share counts once in total. Pages
    that are shared with processes outside the session, such as the code of a library, count in part.
    """
    total = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended
            if _session_of(process) == session:
                total += _pss_kb(process) / 1024
    return total


def _session_of(process: Path) -> int:
    """Return the session of a process: the sixth field of `stat`, after the name in parentheses."""
    return int((process / "stat").read_text(errors="replace").rpartition(")")[2].split()[3])


def _pss_kb(process: Path) -> int:
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
