"""Writes features to object stores through fsspec: S3, GCS and others. Objects appear complete, the record last."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..errors import OutputError, WriteError, with_kind
from ..features import Deferred, Features, Prediction, Values
from ..locations import store_of
from ..media import Frame
from .base import Saved, StoredFeatures, as_features
from .download import Download
from .files import FileSink
from .formats import Format
from .layout import Extras, NameLimits, Paths, load_predictions
from .provenance import OutputRecord, Provenance, SourceRecord, check_same_settings, check_same_source
from .rows import Rows, Staging


class StoreSink:
    """Writes the files of `FileSink` under the same names below a URL. See `Sink`.

    The files of a video are written to a local temporary folder and then uploaded as whole objects. The record is
    uploaded last and holds the sizes of the other objects. There are no claims: stores have no locks.

    lists: True to list each folder once and to look up records in that listing only; False to request each record
    """

    def __init__(self, url: str, format: Format, *, overwrite: bool = False, lists: bool = False) -> None:
        self.root = url
        self._format = format
        self._overwrite = overwrite
        self._lists = lists
        self._store, self._base = store_of(url, error=OutputError)
        self._listed: dict[str, dict[str, int]] = {}  # {folder: {object name: bytes}}
        self._replaced: dict[str, set[str]] = {}  # {address of a record to replace: names of its objects}

    def record_path(self, name: str, provenance: Provenance) -> Path | None:
        return None

    def existing(self, name: str, provenance: Provenance, source: SourceRecord, extras: Extras) -> Saved | None:
        paths = Paths.of(Path(), name, provenance)
        paths.check_length(self._format, extras, NameLimits())
        if self._lists and paths.record.name not in self._listing(paths):
            paths.check_unshared(lambda record: record.name in self._listing(paths))
            return None
        try:
            content = json.loads(self._cat(paths.record))
            self._replaced[self._address(paths.record)] = set(content.get("bytes", ()))
            found = OutputRecord.from_json(content)
            check_same_source(self._url(paths.record), found.source, source)
            check_same_settings(self._url(paths.record), found, provenance, source)
            saved = self._saved(paths, found, extras)
        except OutputError:
            if self._overwrite:
                return None
            raise
        except (FileNotFoundError, KeyError, ValueError, TypeError, AttributeError):
            return None  # missing or damaged: extract again
        except Exception as error:
            raise OutputError(_with_cause(f"{self._url(paths.record)}: cannot be read", error)) from error
        del self._replaced[self._address(paths.record)]
        return saved

    def _saved(self, paths: Paths, record: OutputRecord, extras: Extras) -> Saved:
        """Return the objects that the record lists. Raises ValueError or KeyError if one is missing or incomplete."""
        if record.bytes is None:
            raise ValueError("the record has no sizes")
        for name in (*record.bytes, *(path.name for path in paths.extras(extras))):
            if self._size(paths, name) != record.bytes[name]:
                raise ValueError(f"{name} is incomplete")
        predictions = load_predictions(self._cat(paths.predictions).decode()) if extras.predictions else None
        files = (*(self._url(paths.folder / name) for name in record.bytes), self._url(paths.record))
        return Saved(self._stored(paths, record, predictions), files)

    def stage(self, name: str, provenance: Provenance, extras: Extras) -> Staging:
        return _StoreStaging(self._format, name, provenance, extras)

    def write(self, name: str, features: Features, staging: Staging) -> Saved:
        assert isinstance(staging, _StoreStaging)
        saved = staging.write(features)
        *others, record_path = saved.files
        assert isinstance(record_path, Path)
        sizes = {Path(path).name: Path(path).stat().st_size for path in others}
        record = OutputRecord.from_json(json.loads(record_path.read_text(encoding="utf-8")))
        record = replace(record, bytes=sizes)
        record_path.write_text(record.as_text(), encoding="utf-8")
        paths = Paths.of(Path(), name, record.provenance)
        addresses = [self._address(paths.folder / Path(path).name) for path in others]
        with self._writing(paths):
            self._remove_replaced(paths, sizes)
            self._store.put([str(path) for path in others], addresses)
            self._store.put_file(str(record_path), self._address(paths.record))
        urls = tuple(self._url(paths.folder / Path(path).name) for path in saved.files)
        return Saved(self._stored(paths, record, features.predictions), urls)

    def stored(self, name: str, features: Features) -> Features:
        return features

    def _stored(
        self, paths: Paths, record: OutputRecord, predictions: dict[str, list[Prediction]] | None
    ) -> StoredFeatures:
        load = partial(load_objects, self.root, paths, record, self._format)
        return StoredFeatures(load, record.as_json(), predictions)

    def _remove_replaced(self, paths: Paths, new: dict[str, int]) -> None:
        """Remove a record and its stale objects before new objects are uploaded.

        The old record must not mark the new objects as complete.
        """
        earlier = self._replaced.pop(self._address(paths.record), None)
        if earlier is not None:
            self._store.rm_file(self._address(paths.record))
            for stale in earlier - new.keys():
                if self._store.exists(address := self._address(paths.folder / stale)):
                    self._store.rm_file(address)

    def _listing(self, paths: Paths) -> dict[str, int]:
        folder = paths.folder.as_posix()
        if folder not in self._listed:
            try:
                self._store.invalidate_cache(f"{self._base}/{folder}")  # other processes may have written there
                entries = self._store.ls(f"{self._base}/{folder}", detail=True)
            except FileNotFoundError:
                entries = []
            except Exception as error:
                raise OutputError(_with_cause(f"{self._url(paths.folder)}: cannot be listed", error)) from error
            self._listed[folder] = {entry["name"].rpartition("/")[2]: entry["size"] for entry in entries}
        return self._listed[folder]

    def _size(self, paths: Paths, name: str) -> int | None:
        if self._lists:
            return self._listing(paths).get(name)
        try:
            size: int = self._store.size(self._address(paths.folder / name))
            return size
        except FileNotFoundError:
            return None

    def _cat(self, path: Path) -> bytes:
        content: bytes = self._store.cat_file(self._address(path))
        return content

    def _address(self, path: Path) -> str:
        return f"{self._base}/{path.as_posix()}"

    def _url(self, path: Path) -> str:
        return f"{self.root}/{path.as_posix()}"

    @contextmanager
    def _writing(self, paths: Paths) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store raises its own types
            raise WriteError(_with_cause(f"{self._url(paths.folder)}: cannot be written", error)) from error


class _StoreStaging(Staging):
    """Stages the files of one video in a local temporary folder for upload to the store."""

    def __init__(self, format: Format, name: str, provenance: Provenance, extras: Extras) -> None:
        self._folder = TemporaryDirectory(prefix="video_features-")
        self._name = name
        self._files = FileSink(Path(self._folder.name), format)
        self._staging = self._files.stage(name, provenance, extras)

    def show(self, frame: Frame) -> None:
        self._staging.show(frame)

    def rows(self, key: str, dtype: type[np.generic]) -> Rows:
        return self._staging.rows(key, dtype)

    def write(self, features: Features) -> Saved:
        return self._files.write(self._name, features, self._staging)

    def close(self) -> None:
        self._staging.close()
        self._folder.cleanup()


def load_objects(url: str, paths: Paths, record: OutputRecord, format: Format) -> Features:
    """Load the features that a record lists from objects below a URL.

    paths: the paths of the objects, relative to the URL
    Values in `.npy` objects are not read into memory. Each is downloaded to a temporary file on first access.
    Raises OutputError if an object is missing or damaged.
    """
    store, base = store_of(url, error=OutputError)
    names = {key: paths.array(key, format) for key in record.arrays}
    sizes = record.bytes or {}
    deferred = {
        key: Deferred(tuple(shape), Download(f"{url}/{names[key].as_posix()}", sizes.get(names[key].name)))
        for key, shape in record.shapes.items()
        if format.is_npy
    }
    addresses = {key: f"{base}/{path.as_posix()}" for key, path in names.items() if key not in deferred}
    try:
        with ThreadPoolExecutor(len(addresses)) as pool:  # `cat` of several paths would expand them as glob patterns
            contents = dict(zip(addresses, pool.map(store.cat_file, addresses.values()), strict=True))
        arrays = {key: format.load(io.BytesIO(content)) for key, content in contents.items()}
        values = Values({key: deferred[key] if key in deferred else arrays[key] for key in record.shapes})
        return as_features(values, arrays, record)
    except Exception as error:
        raise OutputError(_with_cause(f"{url}/{paths.record.as_posix()}: features cannot be read", error)) from error


def _with_cause(message: str, error: Exception) -> str:
    return f"{message} ({with_kind(error)})"
