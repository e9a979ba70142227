"""Features as `.npy` or `.pkl` files. Files appear whole, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OutputError, WriteError, with_kind
from ..features import Features, Values
from ..media import Frame
from .base import Saved, StoredFeatures, as_features
from .layout import Extras, Format, Part, Paths, dump_predictions, load_predictions, temporary_path, write_together
from .provenance import OutputRecord, Provenance, SourceRecord, check_same_settings, check_same_source
from .rows import Array, Rows, RowsInFile, Staging

if TYPE_CHECKING:
    from .preview import Preview


class FileSink:
    """One file a key, in the reference tool's layout:

        {root}/{feature}/{model_name with / as _}/{name}_{key}{suffix}

    and beside them `{name}_{feature}.json`, the record, written last; where there are predictions,
    `{name}_{feature}_pred.jsonl`, a line a row; and where one was asked for, `{name}_{feature}_preview.mp4`.
    """

    def __init__(self, root: Path, format: Format, *, overwrite: bool = False) -> None:
        self.root = root
        self._format = format
        self._overwrite = overwrite

    def record_path(self, name: str, provenance: Provenance) -> Path:
        return Paths(self.root, name, provenance).record

    def existing(self, name: str, provenance: Provenance, source: SourceRecord, extras: Extras) -> Saved | None:
        paths = Paths(self.root, name, provenance)
        paths.check_length()
        try:
            found = OutputRecord.from_json(json.loads(paths.record.read_text(encoding="utf-8")))
            check_same_source(paths.record, found.source, source)
            check_same_settings(paths.record, found, provenance, source)
            return self._load(paths, found, extras)
        except OutputError:
            if self._overwrite:
                return None
            raise
        except Exception:  # any way in which files can be damaged or gone: made again
            return None

    def stage(self, name: str, provenance: Provenance, extras: Extras) -> Staging:
        path = self.record_path(name, provenance)
        return _FileStaging(path, rows_in_files=self._format.grows, with_preview=extras.preview)

    def write(self, name: str, features: Features, staging: Staging) -> Saved:
        gathered = features.values.files if isinstance(features.values, Values) else {}  # while the video was read
        arrays = {key: array for key, array in features.arrays().items() if key not in gathered}
        record = replace(
            OutputRecord.from_json(features.record),
            arrays=[*gathered, *arrays],
            gathered=list(gathered),
            preview_bytes=None if staging.preview is None else staging.preview.stat().st_size,
        )
        paths = Paths(self.root, name, record.provenance)
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
        load = partial(self._load_again, name, OutputRecord.from_json(features.record).provenance)
        return StoredFeatures(load, features.record, features.predictions)

    def _load_again(self, name: str, provenance: Provenance) -> Features:
        paths = Paths(self.root, name, provenance)
        try:
            record = OutputRecord.from_json(json.loads(paths.record.read_text(encoding="utf-8")))
            return self._load(paths, record, Extras()).features
        except Exception as error:  # any way in which files can be damaged or gone
            raise OutputError(f"{paths.record}: its features cannot be read ({with_kind(error)})") from error

    def _stale(self, paths: Paths, record: OutputRecord) -> set[Path]:
        """Files of another run, for which the new record would vouch."""
        try:
            earlier = json.loads(paths.record.read_text(encoding="utf-8"))["arrays"]
        except Exception:  # there is no record, or a damaged one
            earlier = None
        if self._overwrite:
            return paths.all_of({*record.arrays, *(earlier or ())})
        return {paths.predictions, paths.preview} if earlier is None else set()  # arrays may be another tool's

    def _load(self, paths: Paths, record: OutputRecord, extras: Extras) -> Saved:
        """Everything that the record promises; an error of any kind where it is not there or not whole."""
        files = {key: paths.array(key, self._format) for key in record.arrays}
        in_files = record.gathered if self._format.grows else []
        values = Values({key: files[key] if key in in_files else self._read(files[key]) for key in record.shapes})
        arrays = {key: self._read(path) for key, path in files.items() if key not in record.shapes}
        for key, shape in record.shapes.items():
            if list(values[key].shape) != shape:
                raise ValueError(f"{key} has shape {values[key].shape}, recorded as {shape}")
        features = as_features(values, arrays, record.as_json())
        if extras.predictions:
            predictions = load_predictions(paths.predictions.read_text(encoding="utf-8"))
            features = replace(features, predictions=predictions)
        others = [paths.predictions] * extras.predictions + [paths.preview] * extras.preview + [paths.record]
        if extras.preview and paths.preview.stat().st_size != record.preview_bytes:
            raise ValueError("the preview is not whole")
        return Saved(features, (*files.values(), *others))

    def _read(self, path: Path) -> Array:
        with path.open("rb") as file:
            return self._format.load(file)


class _FileStaging(Staging):
    """Rows and a preview as files under temporary names, in the folder of the outputs, which they become.

    record: the path of the record that will vouch for them
    """

    def __init__(self, record: Path, *, rows_in_files: bool, with_preview: bool) -> None:
        self._record = record
        self._rows_in_files = rows_in_files
        self._with_preview = with_preview
        self._made: list[RowsInFile | Preview] = []
        self._drawn: Preview | None = None

    def show(self, frame: Frame) -> None:
        if self._drawn is not None:
            self._drawn.show(frame)

    def rows(self, key: str, dtype: type[np.generic]) -> Rows:
        rows = super().rows(key, dtype)
        if self._rows_in_files:
            rows = RowsInFile(temporary_path(self._record), dtype)
            self._made.append(rows)
        if self._with_preview:
            from .preview import Preview  # which loads torchvision and FFmpeg

            rows = self._drawn = Preview(temporary_path(self._record), rows)
            self.preview = rows.path
            self._made.append(rows)
        return rows

    def close(self) -> None:
        for made in self._made:
            made.close()
