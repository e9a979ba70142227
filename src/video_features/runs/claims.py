"""Share out videos among processes with claims: files beside the outputs that name a host and a process."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from ..errors import SettingsError, WriteError
from ..outputs.layout import digest, remove_temporary


class Claims:
    """Claims on outputs, which are identified by the paths of their records.

    The holder of a claim touches the file as a heartbeat. If the holder has ended on this host, its claim is taken over
    at once. A claim of another host is taken over after `seconds` without a heartbeat. Two processes therefore work on
    the same outputs only if one of them was suspended for that long. Even then no file is damaged, because each file is
    written under a temporary name and then renamed.

    root: the output folder, which the processes share
    seconds: how long a claim without a heartbeat lasts; the same for all processes
    """

    def __init__(self, root: Path, seconds: float) -> None:
        self._root = root
        self._seconds = seconds
        self._has_folder = False
        self._watched: dict[Path, SoftFileLease] = {}  # claims of others: a lease tracks their heartbeats
        self._empty_since: dict[Path, float] = {}

    def claim(self, records: Iterable[Path]) -> Claim | None:
        """Claim all of these outputs. Returns None if another process has a claim on any of them.

        Raises WriteError if claims cannot be written, and SettingsError if another process uses other `seconds`.
        """
        held: list[SoftFileLease] = []
        for record in sorted(records):
            try:
                lease = self._take(record)
            except BaseException:
                Claim(held).release()
                raise
            if lease is None:
                Claim(held).release()
                return None
            held.append(lease)
        return Claim(held)

    def _take(self, record: Path) -> SoftFileLease | None:
        path = claim_path(self._root, record)
        try:
            was_there = path in self._watched or path.exists()
            lease = self._watched.get(path) or self._lease(path)
            lease.acquire(blocking=False)
        except Timeout:
            self._watched[path] = lease
            self._break_empty(path, lease)
            return None
        except LeaseSettingsMismatch as error:
            raise SettingsError(
                f"claim_seconds={self._seconds:g} differs from that of another process that shares {self._root} "
                f"({error}); give all processes the same value"
            ) from error
        except OSError as error:
            raise WriteError(f"{path}: cannot be written ({error.strerror or error})") from error
        self._watched.pop(path, None)
        if was_there:  # the process that had it may have been killed while it wrote the outputs
            remove_temporary(record)
        return lease

    def _break_empty(self, path: Path, lease: SoftFileLease) -> None:
        """Remove a claim that has stayed empty for `seconds`: its process was killed, and filelock never breaks it."""
        with suppress(FileNotFoundError):
            if path.stat().st_size > 0:
                self._empty_since.pop(path, None)
            elif time.monotonic() - self._empty_since.setdefault(path, time.monotonic()) >= self._seconds:
                del self._empty_since[path]
                lease.force_break()

    def _lease(self, path: Path) -> SoftFileLease:
        if not self._has_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._has_folder = True
        return SoftFileLease(path, lease_duration=self._seconds, thread_local=False)


class Claim:
    """The exclusive right to work on outputs, until it is released. As a context manager, it is released on exit."""

    def __init__(self, leases: Iterable[SoftFileLease]) -> None:
        self._leases = list(leases)

    def release(self) -> None:
        """Let other processes claim the outputs."""
        for lease in self._leases:
            lease.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def claim_path(root: Path, record: Path) -> Path:
    """The path of the claim on the outputs whose record is at `record`."""
    return root / ".video_features" / "claims" / f"{digest(record.relative_to(root).as_posix())}.claim"


@dataclass(frozen=True)
class Holder:
    """The process that has a claim. silent_seconds: the time since its last heartbeat"""

    host: str
    process: int
    silent_seconds: float

    def __str__(self) -> str:
        return f"{self.host}, process {self.process}, last heartbeat {self.silent_seconds:.0f} s ago"


def holder_of(root: Path, record: Path) -> Holder | None:
    """The process with a claim on the outputs whose record is at `record`; None if no live process has one."""
    path = claim_path(root, record)
    try:
        silent_seconds = max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None
    owner = SoftFileLease(path, thread_local=False).owner
    if owner is None or silent_seconds > (owner.lease_duration or 0) or _is_gone(owner.hostname, owner.pid):
        return None
    return Holder(owner.hostname, owner.pid, silent_seconds)


def _is_gone(host: str, process: int) -> bool:
    """Whether the process ran on this host and has ended; False if that cannot be determined."""
    if sys.platform == "win32" or host != socket.gethostname():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
