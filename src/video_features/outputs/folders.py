"""Lists and reads the outputs in a folder, which is a local folder or a folder of an object store."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import OutputError
from ..features import Deferred, Features
from ..locations import Location, explained, shown, store_of, why_missing
from .download import Download
from .files import load_outputs, read_array
from .formats import Format
from .layout import Extras, Paths, load_predictions
from .provenance import OutputRecord
from .rows import Array
from .store import load_objects

HEADER_BYTES = 1 << 16  # the header of a `.npy` file is far shorter


class Folder(Protocol):
    """A folder of outputs."""

    @property
    def location(self) -> Location:
        """The path or URL of the folder."""

    @property
    def names(self) -> list[str]:
        """The names of the files, sorted. Raises OutputError if the folder cannot be listed."""

    def folders(self) -> list[Folder]:
        """The folders in this folder, sorted by name, without those whose names start with a dot."""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def read(self, name: str) -> bytes:
        """Return the content of a small file. Raises an error of any type if it cannot be read."""

    def array(self, name: str, format: Format, *, mapped: bool) -> Array | Path | Deferred:
        """Return the array of a file, or with `mapped` the path of a `.npy` file, or the promise to download it.

        Raises an error of any type if it cannot be read.
        """

    def load(self, stem: str, record: OutputRecord, format: Format) -> Features:
        """Load the features of a record. Raises an error of any type if the files are missing or damaged."""


def joined(folder: Location, name: str) -> Location:
    """Return the path or URL of a file in a folder."""
    return folder / name if isinstance(folder, Path) else f"{folder}/{name}"


@dataclass(frozen=True)
class LocalFolder:
    """A local folder. See `Folder`.

    entered: the real paths of the folders through which links led here
    """

    location: Path
    entered: frozenset[Path] = frozenset()

    def __reduce__(self) -> Any:
        return type(self), (self.location, self.entered)  # another process lists the folder itself

    @cached_property
    def names(self) -> list[str]:
        return sorted(entry.name for entry in self._entries() if _is(entry.is_file))

    def folders(self) -> list[Folder]:
        entries = [entry for entry in self._entries() if _is(entry.is_dir) and not entry.name.startswith(".")]
        return [self._inside(entry) for entry in sorted(entries, key=Path) if not self._leads_back(entry)]

    def _inside(self, entry: os.DirEntry[str]) -> LocalFolder:
        entered = self.entered | {self.location.resolve()} if entry.is_symlink() else self.entered
        return LocalFolder(Path(entry), entered)

    def _leads_back(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry is a link to a folder that contains this folder, so that following it would never end."""
        here = self.location.resolve()
        return entry.is_symlink() and Path(entry).resolve() in {here, *here.parents, *self.entered}

    def has(self, name: str) -> bool:
        return (self.location / name).is_file()

    def read(self, name: str) -> bytes:
        return (self.location / name).read_bytes()

    def array(self, name: str, format: Format, *, mapped: bool) -> Array | Path | Deferred:
        path = self.location / name
        return path if mapped and format.is_npy else read_array(path, format)

    def load(self, stem: str, record: OutputRecord, format: Format) -> Features:
        paths = Paths(self.location, stem, record.provenance.feature)
        extras = Extras(predictions=paths.predictions.is_file())
        return load_outputs(paths, record, format, extras, mapped=record.shapes).features

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.location) as entries:
                return list(entries)
        except OSError as error:
            raise OutputError(f"{self.location}: {why_missing(self.location, error)}") from error


def _is(kind: Callable[[], bool]) -> bool:
    """Return `is_file()` or `is_dir()` of an entry; False for a link that leads nowhere."""
    try:
        return kind()
    except OSError:  # a link to itself, or to a disk that is gone
        return False


@dataclass(frozen=True)
class StoreFolder:
    """A folder of an object store. See `Folder`.

    location: its URL
    """

    location: str

    def __reduce__(self) -> Any:
        return type(self), (self.location,)

    @cached_property
    def names(self) -> list[str]:
        return sorted(name for name, is_folder in self._entries.items() if not is_folder)

    def folders(self) -> list[Folder]:
        names = sorted(name for name, is_folder in self._entries.items() if is_folder and not name.startswith("."))
        return [StoreFolder(f"{self.location}/{name}") for name in names]

    def has(self, name: str) -> bool:
        return self._entries.get(name) is False

    def read(self, name: str) -> bytes:
        store, path = self._store
        content: bytes = store.cat_file(f"{path}/{name}")
        return content

    def array(self, name: str, format: Format, *, mapped: bool) -> Array | Path | Deferred:
        store, path = self._store
        if not mapped or not format.is_npy:
            return format.load(io.BytesIO(self.read(name)))
        shape = shape_in_header(store.cat_file(f"{path}/{name}", start=0, end=HEADER_BYTES))
        return Deferred(shape, Download(f"{self.location}/{name}"))

    def load(self, stem: str, record: OutputRecord, format: Format) -> Features:
        paths = Paths(Path(), stem, record.provenance.feature)
        features = load_objects(self.location, paths, record, format)
        if not self.has(paths.predictions.name):
            return features
        return replace(features, predictions=load_predictions(self.read(paths.predictions.name).decode()))

    def is_empty(self) -> bool:
        """Whether there is nothing in the folder. A store does not tell an empty folder from a missing one."""
        return not self._entries

    @cached_property
    def _store(self) -> tuple[Any, str]:
        return store_of(self.location, error=OutputError)

    @cached_property
    def _entries(self) -> dict[str, bool]:
        """{name: whether it is a folder}"""
        store, path = self._store
        try:
            store.invalidate_cache(path)  # other processes may have written there
            found = store.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:  # each store raises its own types
            raise OutputError(f"{shown(self.location)}: cannot be listed ({explained(error, self.location)})") from None
        names = {entry["name"].rstrip("/").rpartition("/")[2]: entry["type"] == "directory" for entry in found}
        return {name: is_folder for name, is_folder in names.items() if name}


def shape_in_header(content: bytes) -> tuple[int, ...]:
    """Return the shape that the beginning of a `.npy` file states. Raises ValueError if it is none."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return tuple(read(file)[0])
