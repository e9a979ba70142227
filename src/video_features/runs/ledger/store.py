"""The records of runs whose outputs are in a store that fsspec writes to, where nothing can be appended to an object.

outcomes/*.jsonl             lines of ends of videos, an object for those of half a minute, or of a thousand
.video_features/runs/*.json  what each run was to do
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from ...errors import OutputError, WriteError, with_kind
from ...locations import store_of
from ...outputs.layout import digest
from .base import Ledger, RunRecord, readable_runs, unwritable

WRITE_EVERY_SECONDS, WRITE_EVERY_LINES = 30.0, 1000


class StoreLedger(Ledger):
    """The records below a URL. Of a process that is killed, the lines of the last half minute are lost; not outputs.

    What others record after this one began to look is not looked at: without claims nobody waits for anybody.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._store, base = store_of(url, error=OutputError)
        self._outcomes, self._runs = f"{base}/outcomes", f"{base}/.video_features/runs"
        self._waiting: list[dict[str, Any]] = []
        self._written = time.monotonic()

    def exists(self) -> bool:
        return bool(self._names(self._outcomes))

    def append(self, lines: list[dict[str, Any]]) -> None:
        self._waiting += lines
        is_due = time.monotonic() - self._written > WRITE_EVERY_SECONDS
        if is_due or len(self._waiting) >= WRITE_EVERY_LINES:
            self.close()

    def close(self) -> None:
        self._written = time.monotonic()
        if self._waiting:
            lines, self._waiting = self._waiting, []
            when = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
            name = f"{when}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
            self._put(f"{self._outcomes}/{name}", "".join(json.dumps(line) + "\n" for line in lines))

    def begin(self, run: RunRecord) -> None:
        text = json.dumps(run.as_json())
        self._put(f"{self._runs}/{digest(text)}.json", text)

    def runs(self) -> list[RunRecord]:
        with self._reading():
            found = [(self._store.modified(name), self._store.cat_file(name)) for name in self._names(self._runs)]
        latest_first = sorted(found, key=lambda one: one[0], reverse=True)
        return readable_runs((RunRecord.read(text, self._url, began) for began, text in latest_first), self._url)

    def check_can_write(self) -> None:
        try:
            self._store.pipe_file(probe := f"{self._runs}/{uuid.uuid4().hex}.tmp", b"probe")
            self._store.rm_file(probe)
        except Exception as error:
            raise WriteError(unwritable(self._url, with_kind(error))) from error

    def _added(self) -> bytes:
        if self.has_read:
            return b""
        names = self._names(self._outcomes)
        with self._reading():
            return b"".join(self._store.cat_file(name) for name in names)

    def _names(self, folder: str) -> list[str]:
        """What is in a folder, the earliest first."""
        with self._reading():
            try:
                self._store.invalidate_cache(folder)  # others have written there
                return sorted(self._store.ls(folder, detail=False))
            except FileNotFoundError:
                return []

    def _put(self, name: str, text: str) -> None:
        try:
            self._store.pipe_file(name, text.encode())
        except Exception as error:  # each store raises its own kinds
            raise WriteError(f"{name}: cannot be written ({with_kind(error)})") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OutputError:
            raise
        except Exception as error:
            why = with_kind(error)
            raise OutputError(f"{self._url}: what runs have recorded cannot be read ({why})") from error
