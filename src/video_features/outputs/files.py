"""Writes features as files, one for each array. Files appear complete or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OutputError, WriteError, with_kind
from ..features import Features, Values
from ..media import Frame
from .base import Saved, StoredFeatures, as_features
from .formats import Format
from .layout import Extras, NameLimits, Part, Paths, dump_predictions, load_predictions, temporary_path, write_together
from .provenance import OutputRecord, Provenance, SourceRecord, check_same_settings, check_same_source
from .rows import Array, Rows, RowsInFile, Staging

if TYPE_CHECKING:
    from .preview import Preview


class FileSink:
    """Writes one file for each array, in the layout of the reference tool:

        {root}/{feature}/{model_name, with / and : as _}/{name}_{key}{suffix}

    The same folder holds the record, `{name}_{feature}.json`, which is written last. Predictions go to
    `{name}_{feature}_pred.jsonl`, one line for each row, and a preview to `{name}_{feature}_preview.mp4`.
    """

    def __init__(self, root: Path, format: Format, *, overwrite: bool = False) -> None:
        self.root = root
        self._format = format
        self._overwrite = overwrite
        self._limits = NameLimits.of(root)

    def record_path(self, name: str, provenance: Provenance) -> Path:
        return Paths.of(self.root, name, provenance).record

    def existing(self, name: str, provenance: Provenance, source: SourceRecord, extras: Extras) -> Saved | None:
        paths = Paths.of(self.root, name, provenance)
        paths.check_length(self._format, extras, self._limits)
        try:
            found = OutputRecord.from_json(json.loads(paths.record.read_text(encoding="utf-8")))
            check_same_source(paths.record, found.source, source)
            check_same_settings(paths.record, found, provenance, source)
            return load_outputs(paths, found, self._format, extras, mapped=found.gathered)
        except OutputError:
            if not self._overwrite:
                raise
        except Exception:  # the files are missing or damaged in any way: extract again
            pass
        paths.check_unshared(Path.is_file)
        return None

    def stage(self, name: str, provenance: Provenance, extras: Extras) -> Staging:
        path = self.record_path(name, provenance)
        return _FileStaging(path, rows_in_files=self._format.is_npy, with_preview=extras.preview)

    def write(self, name: str, features: Features, staging: Staging) -> Saved:
        # Arrays whose files grew row by row while the video was read.
        gathered = features.values.files if isinstance(features.values, Values) else {}
        arrays = {key: array for key, array in features.arrays().items() if key not in gathered}
        record = replace(
            OutputRecord.from_json(features.record),
            arrays=[*gathered, *arrays],
            gathered=list(gathered),
            preview_bytes=None if staging.preview is None else staging.preview.stat().st_size,
        )
        paths = Paths.of(self.root, name, record.provenance)
        paths.check_unshared(Path.is_file)  # another process may have written them meanwhile
        parts: dict[Path, Part] = {paths.array(key, self._format): path for key, path in gathered.items()}
        for key, array in arrays.items():
            parts[paths.array(key, self._format)] = partial(self._format.dump, array)
        if features.predictions is not None:
            parts[paths.predictions] = partial(dump_predictions, features.predictions)
        if staging.preview is not None:
            parts[paths.preview] = staging.preview
        parts[paths.record] = lambda file: file.write(record.as_text().encode())
        try:
            write_together(parts, commit=paths.record, stale=self._stale(paths, record) - parts.keys())
        except OSError as error:
            raise WriteError(
                f"{error.filename2 or error.filename or paths.folder}: cannot be written ({error.strerror or error})"
            ) from error
        if gathered:
            values = {
                key: paths.array(key, self._format) if key in gathered else arrays[key] for key in features.values
            }
            features = replace(features, values=Values(values))
        return Saved(features, tuple(parts))

    def stored(self, name: str, features: Features) -> Features:
        load = partial(self._load_stored, name, OutputRecord.from_json(features.record).provenance)
        return StoredFeatures(load, features.record, features.predictions)

    def _load_stored(self, name: str, provenance: Provenance) -> Features:
        paths = Paths.of(self.root, name, provenance)
        try:
            record = OutputRecord.from_json(json.loads(paths.record.read_text(encoding="utf-8")))
            return load_outputs(paths, record, self._format, Extras(), mapped=record.gathered).features
        except Exception as error:  # the files are missing or damaged in any way
            raise OutputError(f"{paths.record}: features cannot be read ({with_kind(error)})") from error

    def _stale(self, paths: Paths, record: OutputRecord) -> set[Path]:
        """Return files of an earlier run that would wrongly count as outputs of the new record."""
        try:
            earlier = json.loads(paths.record.read_text(encoding="utf-8"))["arrays"]
        except Exception:  # the record is missing or damaged
            earlier = None
        if self._overwrite:
            return paths.all_of({*record.arrays, *(earlier or ())})
        # Without a record, another tool may have written the arrays: keep them.
        return {paths.predictions, paths.preview} if earlier is None else set()


def load_outputs(paths: Paths, record: OutputRecord, format: Format, extras: Extras, *, mapped: Iterable[str]) -> Saved:
    """Load the outputs that a record lists; raises an error of any type if an output is missing or incomplete.

    mapped: keys of the values that are not read into memory, but mapped on access, if the files are `.npy` files
    """
    files = {key: paths.array(key, format) for key in record.arrays}
    in_files = set(mapped) if format.is_npy else set()
    values = Values({key: files[key] if key in in_files else read_array(files[key], format) for key in record.shapes})
    arrays = {key: read_array(path, format) for key, path in files.items() if key not in record.shapes}
    features = as_features(values, arrays, record)
    if extras.predictions:
        predictions = load_predictions(paths.predictions.read_text(encoding="utf-8"))
        features = replace(features, predictions=predictions)
    if extras.preview and paths.preview.stat().st_size != record.preview_bytes:
        raise ValueError("the preview is incomplete")
    return Saved(features, (*files.values(), *paths.extras(extras), paths.record))


def read_array(path: Path, format: Format) -> Array:
    """Read the array of a file; raises an error of any type if it is missing or damaged."""
    with path.open("rb") as file:
        try:
            return format.load(file)
        except Exception as error:
            raise ValueError(f"{path.name}: {with_kind(error)}") from error


class _FileStaging(Staging):
    """Stages rows and a preview as temporary files in the output folder, to be renamed when the outputs are complete.

    record: the path of the record of these outputs
    """

    def __init__(self, record: Path, *, rows_in_files: bool, with_preview: bool) -> None:
        self._record = record
        self._rows_in_files = rows_in_files
        self._with_preview = with_preview
        self._staged: list[RowsInFile | Preview] = []
        self._preview_rows: Preview | None = None

    def show(self, frame: Frame) -> None:
        if self._preview_rows is not None:
            self._preview_rows.show(frame)

    def rows(self, key: str, dtype: type[np.generic]) -> Rows:
        rows = super().rows(key, dtype)
        if self._rows_in_files:
            rows = RowsInFile(temporary_path(self._record), dtype)
            self._staged.append(rows)
        if self._with_preview:
            from .preview import Preview  # imports FFmpeg

            rows = self._preview_rows = Preview(temporary_path(self._record), rows)
            self.preview = rows.path
            self._staged.append(rows)
        return rows

    def close(self) -> None:
        for rows in self._staged:
            rows.close()
