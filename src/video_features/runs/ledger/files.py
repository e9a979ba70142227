"""The ledger of an output folder, in these files:

outcomes.jsonl               one line per outcome, appended by all processes
.video_features/runs/*.json  the features, settings and videos of each run
.video_features/claims/      which process works on which video, see `claims`
configs/*.yaml               the settings of each run, for `--config`
"""

from __future__ import annotations

import json
import os
import uuid
from contextlib import suppress
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from ...errors import WriteError
from ...outputs.layout import digest
from ...settings.config import UsedSettings
from .base import Ledger, RunRecord, readable_runs, unwritable

PROBE_BYTES = 1 << 20  # a disk that cannot take this much counts as full


class FileLedger(Ledger):
    """The records in files of an output folder."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._path = root / "outcomes.jsonl"
        self._runs = root / ".video_features" / "runs"
        self._configs = root / "configs"
        self._read_until = 0
        self._begun: Path | None = None  # the file of this run, unless an earlier run was the same

    @cached_property
    def _lock(self) -> FileLock:
        self._runs.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._runs.parent / "outcomes.lock")

    def exists(self) -> bool:
        return self._path.exists()

    def append(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        try:
            with self._lock, self._path.open("ab+") as file:
                if file.tell() and file.seek(-1, os.SEEK_END) and file.read(1) != b"\n":
                    text = b"\n" + text  # the last line was cut off by a kill or a full disk
                file.write(text)
        except OSError as error:
            raise WriteError(f"{self._path}: cannot be written ({error.strerror or error})") from error

    def close(self) -> None:
        pass  # nothing is buffered

    def begin(self, run: RunRecord) -> None:
        text = json.dumps(run.as_json())
        path = self._runs / f"{digest(text)}.json"
        self._begun = None if path.exists() else path
        self._write(path, text)

    def keep_settings(self, used: UsedSettings) -> None:
        if not (path := self._configs / used.name).exists():
            self._write(path, used.as_text())

    def _write(self, path: Path, text: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.tmp")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise WriteError(f"{path}: cannot be written ({error.strerror or error})") from error

    def withdraw(self) -> None:
        claims = self._runs.with_name("claims")
        with suppress(OSError):  # it cannot be removed, or others have files in a folder
            if self._begun is None or self._path.exists() or (claims.is_dir() and any(claims.iterdir())):
                return  # another process has outcomes, or works on a video
            self._begun.unlink(missing_ok=True)
            if claims.is_dir():
                claims.rmdir()
            self._runs.rmdir()
            self._runs.parent.rmdir()

    def runs(self) -> list[RunRecord]:
        paths = sorted(self._runs.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        found = [(path, datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)) for path in paths]
        return readable_runs((RunRecord.read(_content(path), self._root, began) for path, began in found), self._root)

    def check_can_write(self) -> None:
        probe = self._root / ".video_features" / f"{uuid.uuid4().hex}.tmp"
        try:
            try:
                probe.write_bytes(bytes(PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(unwritable(self._root, str(error.strerror))) from error

    def _added(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._read_until)
                added = file.read()
        except FileNotFoundError:
            added = b""
        whole = added[: added.rfind(b"\n") + 1]
        self._read_until += len(whole)
        return whole


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
