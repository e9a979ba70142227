"""The ledger of an object store that fsspec writes to, where objects cannot be appended to, in these objects:

outcomes/*.jsonl             one line per outcome; each object has the lines of half a minute, or about a thousand lines
.video_features/runs/*.json  the features, settings and videos of each run
configs/*.yaml               the settings of each run, for `--config`
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
from ...settings.config import UsedSettings
from .base import Ledger, RunRecord, readable_runs, unwritable

WRITE_EVERY_SECONDS, WRITE_EVERY_LINES = 30.0, 1000


class StoreLedger(Ledger):
    """The records below a URL. A process that is killed loses its lines of the last half minute, but no outputs.

    Lines that other processes add later are not read: without claims, no process waits for another process.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._store, base = store_of(url, error=OutputError)
        self._outcomes, self._runs = f"{base}/outcomes", f"{base}/.video_features/runs"
        self._configs = f"{base}/configs"
        self._buffer: list[dict[str, Any]] = []
        self._flushed_at = time.monotonic()

    def exists(self) -> bool:
        return bool(self._names(self._outcomes))

    def append(self, lines: list[dict[str, Any]]) -> None:
        self._buffer += lines
        is_due = time.monotonic() - self._flushed_at > WRITE_EVERY_SECONDS
        if is_due or len(self._buffer) >= WRITE_EVERY_LINES:
            self.close()

    def close(self) -> None:
        self._flushed_at = time.monotonic()
        if self._buffer:
            lines, self._buffer = self._buffer, []
            when = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
            name = f"{when}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
            self._put(f"{self._outcomes}/{name}", "".join(json.dumps(line) + "\n" for line in lines))

    def begin(self, run: RunRecord) -> None:
        text = json.dumps(run.as_json())
        self._put(f"{self._runs}/{digest(text)}.json", text)

    def withdraw(self) -> None:
        pass  # no empty folder is left, and there are no claims that tell of other runs

    def keep_settings(self, used: UsedSettings) -> None:
        self._put(f"{self._configs}/{used.name}", used.as_text())

    def runs(self) -> list[RunRecord]:
        with self._reading():
            found = [(self._store.modified(name), self._store.cat_file(name)) for name in self._names(self._runs)]
        latest_first = sorted(found, key=lambda entry: entry[0], reverse=True)
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
        """The objects in a folder, sorted by name; names of outcomes begin with their time."""
        with self._reading():
            try:
                self._store.invalidate_cache(folder)  # other processes have written there
                return sorted(self._store.ls(folder, detail=False))
            except FileNotFoundError:
                return []

    def _put(self, name: str, text: str) -> None:
        try:
            self._store.pipe_file(name, text.encode())
        except Exception as error:  # each store raises its own classes
            raise WriteError(f"{name}: cannot be written ({with_kind(error)})") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OutputError:
            raise
        except Exception as error:
            why = with_kind(error)
            raise OutputError(f"{self._url}: the records of its runs cannot be read ({why})") from error
