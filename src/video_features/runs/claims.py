"""Which process does which video: a claim is a file beside the outputs, with a host, a process and a heartbeat."""

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
    """Claims on outputs, by the paths of their records.

    A claim whose process is gone from this host is taken over at once, one of another host after `seconds` without a
    heartbeat. So two processes never work on the same outputs unless one of them stood still for that long; and even
    then what they write is whole, as every file appears at once.

    root: the folder of the outputs, which the processes share
    seconds: the same for all of them
    """

    def __init__(self, root: Path, seconds: float) -> None:
        self._root = root
        self._seconds = seconds
        self._has_folder = False
        self._watched: dict[Path, SoftFileLease] = {}  # claims of others: how long one was still, the lease remembers
        self._empty_since: dict[Path, float] = {}

    def claim(self, records: Iterable[Path]) -> Claim | None:
        """A claim on all of these outputs; None where another process has one of them.

        Raises WriteError where claims cannot be written, SettingsError where others reckon with other seconds.
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
                f"claim_seconds is {self._seconds:g} here, and another one for a process that shares {self._root} "
                f"({error}); give all of them the same"
            ) from error
        except OSError as error:
            raise WriteError(f"{path}: cannot be written ({error.strerror or error})") from error
        self._watched.pop(path, None)
        if was_there:  # its process may have been killed in the midst of it
            remove_temporary(record)
        return lease

    def _break_empty(self, path: Path, lease: SoftFileLease) -> None:
        """Remove a claim whose process was killed before it wrote who it is, which filelock would leave for ever."""
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
    """Outputs that this process alone works on, until it is released; also a context manager that does that."""

    def __init__(self, leases: Iterable[SoftFileLease]) -> None:
        self._leases = list(leases)

    def release(self) -> None:
        """Leave them to others."""
        for lease in self._leases:
            lease.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def claim_path(root: Path, record: Path) -> Path:
    """The file of the claim on the outputs whose record is at `record`."""
    return root / ".video_features" / "claims" / f"{digest(record.relative_to(root).as_posix())}.claim"


@dataclass(frozen=True)
class Holder:
    """A process that has a claim. silent_seconds: since its last heartbeat"""

    host: str
    process: int
    silent_seconds: float

    def __str__(self) -> str:
        return f"{self.host}, process {self.process}, last sign of life {self.silent_seconds:.0f} s ago"


def holder_of(root: Path, record: Path) -> Holder | None:
    """The process that has the claim on the outputs whose record is at `record`; None where no living one has."""
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
    """Whether a process of this host has ended, as far as the system says."""
    if sys.platform == "win32" or host != socket.gethostname():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
