"""Downloads an object of a store to a temporary file, so that it can be mapped into memory."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..locations import explained, shown, store_of


@dataclass
class Download:
    """An object of a store. A call downloads it to a temporary file, once, and returns the path of the file.

    The file is removed together with this object, or at the end of the process. A copy in another process downloads
    the object again.

    url: the URL of the object
    size_bytes: its recorded size; None if it is not known
    """

    url: str
    size_bytes: int | None = None
    path: Path | None = None

    def __call__(self) -> Path:
        """Raises OutputError if the object is missing, incomplete or cannot be read."""
        if self.path is not None:
            return self.path
        store, address = store_of(self.url, error=OutputError)
        folder = tempfile.mkdtemp(prefix="video_features-")
        remove = weakref.finalize(self, _remove, folder, os.getpid())
        path = Path(folder, address.rpartition("/")[2])
        try:
            store.get_file(address, str(path))
        except Exception as error:  # each store raises its own types
            remove()
            raise OutputError(f"{shown(self.url)}: cannot be read ({explained(error, self.url)})") from error
        if self.size_bytes not in (None, found := path.stat().st_size):
            remove()
            raise OutputError(
                f"{shown(self.url)}: expected {self.size_bytes} bytes, found {found}; the command that wrote it makes "
                "it anew"
            )
        self.path = path
        return path

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "path": None}


def _remove(folder: str, process: int) -> None:
    """Remove the folder, unless this is a forked process, whose parent may still read the file."""
    if os.getpid() == process:
        with suppress(OSError):
            shutil.rmtree(folder)
