"""Where features go: standard output, `.npy` or `.pkl` files. Files appear whole, or not at all."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from .errors import OutputError
from .features import Features, Values
from .predictions import Class, Prediction
from .records import check_same_settings, check_same_source
from .rows import Array, Draft, Rows, RowsInFile


class Sink(Protocol):
    """Takes the features of one video after another."""

    def existing(
        self, name: str, record: dict[str, Any], *, with_predictions: bool, with_preview: bool = False
    ) -> Saved | None:
        """What this very run would write, if it is there already and whole; else None.

        record: feature, settings, weights and source, as `Features.record` has them
        Raises OutputError if what is there was made otherwise, or from another video.
        """

    def draft(self, name: str, record: dict[str, Any], *, with_preview: bool) -> Draft:
        """Where one video's features gather until they are written."""

    def write(self, name: str, features: Features, draft: Draft) -> Saved:
        """Write one video's features, gathered in `draft`; and these as they are then. Raises OutputError where that
        fails."""


@dataclass(frozen=True)
class Saved:
    """Features and their files, if there are any."""

    features: Features
    files: tuple[Path, ...]


class NoSink:
    """Writes nothing: the features go to the caller alone."""

    def existing(
        self, name: str, record: dict[str, Any], *, with_predictions: bool, with_preview: bool = False
    ) -> Saved | None:
        return None

    def draft(self, name: str, record: dict[str, Any], *, with_preview: bool) -> Draft:
        return Draft()

    def write(self, name: str, features: Features, draft: Draft) -> Saved:
        return Saved(features, ())


class PrintSink(NoSink):
    """Prints every key, its array, then its largest, mean and smallest value."""

    def write(self, name: str, features: Features, draft: Draft) -> Saved:
        for key, array in features.arrays().items():
            print(key)
            print(array)
            print(f"max: {array.max():.8f}; mean: {array.mean():.8f}; min: {array.min():.8f}")
            print()
        return Saved(features, ())


@dataclass(frozen=True)
class Format:
    """A file format for one array."""

    suffix: str
    dump: Callable[[Array, IO[bytes]], None]
    load: Callable[[Path], Array]


NUMPY = Format(".npy", lambda array, file: np.save(file, array), lambda path: np.load(path))
PICKLE = Format(".pkl", lambda array, file: pickle.dump(array, file), lambda path: pickle.loads(path.read_bytes()))


class FileSink:
    """One file a key, in the reference tool's layout:

        {root}/{feature}/{model_name with / as _}/{name}_{key}{suffix}

    and beside them `{name}_{feature}.json`, the record, written last; where there are predictions,
    `{name}_{feature}_pred.jsonl`, a line a row; and where one was asked for, `{name}_{feature}_preview.mp4`.
    """

    def __init__(self, root: Path, format: Format, *, overwrite: bool = False) -> None:
        self._root = root
        self._format = format
        self._overwrite = overwrite
        self._written: dict[Path, str] = {}

    def existing(
        self, name: str, record: dict[str, Any], *, with_predictions: bool, with_preview: bool = False
    ) -> Saved | None:
        paths = _Paths(self._root, name, record)
        if (earlier := self._written.get(paths.record, record["source"]["path"])) != record["source"]["path"]:
            raise OutputError(
                f"its outputs would have the names of those of {earlier}, written by this "
                "run; rename one of the two, or give each its own output_path"
            )
        if self._overwrite or not paths.record.exists():
            return None
        try:
            found = json.loads(paths.record.read_text(encoding="utf-8"))
            check_same_source(paths.record, found["source"], record["source"])
            check_same_settings(paths.record, found, record)
            return self._load(paths, found, with_predictions=with_predictions, with_preview=with_preview)
        except OutputError:
            raise
        except Exception:  # any way in which files can be damaged or gone: made again
            return None

    def draft(self, name: str, record: dict[str, Any], *, with_preview: bool) -> Draft:
        folder = _Paths(self._root, name, record).folder
        return _FileDraft(folder, rows_in_files=self._format is NUMPY, with_preview=with_preview)

    def write(self, name: str, features: Features, draft: Draft) -> Saved:
        gathered = features.values.files if isinstance(features.values, Values) else {}
        arrays = {key: array for key, array in features.arrays().items() if key not in gathered}
        record = {**features.record, "arrays": [*gathered, *arrays]}
        paths = _Paths(self._root, name, record)
        parts: dict[Path, Part] = {paths.array(key, self._format): path for key, path in gathered.items()}
        for key, array in arrays.items():
            parts[paths.array(key, self._format)] = partial(self._format.dump, array)
        if features.predictions is not None:
            parts[paths.predictions] = partial(_dump_predictions, features.predictions)
        if draft.preview is not None:
            parts[paths.preview] = draft.preview.path
        parts[paths.record] = lambda file: file.write((json.dumps(record, indent=2) + "\n").encode())
        # Files of another run, for which the new record would vouch. Without `overwrite`, what is there is this run's.
        stale = paths.all_that_may_be() - parts.keys() if self._overwrite else set()
        try:
            _write_together(parts, commit=paths.record, stale=stale)
        except OSError as error:
            raise OutputError(
                f"{error.filename or paths.folder}: cannot be written ({error.strerror or error})"
            ) from error
        self._written[paths.record] = record["source"]["path"]
        if gathered:
            values = {
                key: paths.array(key, self._format) if key in gathered else arrays[key] for key in features.values
            }
            features = replace(features, values=Values(values))
        return Saved(features, tuple(parts))

    def _load(self, paths: _Paths, record: dict[str, Any], *, with_predictions: bool, with_preview: bool) -> Saved:
        """Everything that the record promises; an error of any kind where it is not there or not whole."""
        shapes = record["shapes"]
        files = {key: paths.array(key, self._format) for key in record["arrays"]}
        pictures = {key for key in shapes if len(shapes[key]) > 2 and self._format is NUMPY}
        values = Values({key: files[key] if key in pictures else self._format.load(files[key]) for key in shapes})
        for key, shape in shapes.items():
            if list(values[key].shape) != shape:
                raise ValueError(f"{key} has shape {values[key].shape}, recorded as {shape}")
        arrays = {key: self._format.load(path) for key, path in files.items() if key not in shapes}
        features = Features(
            values=values,
            start_seconds=arrays["timestamps_ms"] / 1000,
            end_seconds=arrays["end_timestamps_ms"] / 1000,
            fps=float(arrays["fps"]),
            padded_frames=arrays.get("padded_frames"),
            predictions=_load_predictions(paths.predictions) if with_predictions else None,
            record=record,
        )
        others = [paths.predictions] * with_predictions + [paths.preview] * with_preview + [paths.record]
        if not all(path.is_file() for path in others):
            raise ValueError(f"not all of {others} are there")
        return Saved(features, (*files.values(), *others))


@dataclass(frozen=True)
class _Paths:
    """Where the outputs of one feature of one video go.

    name: the video's
    outputs_record: with the feature and its settings
    """

    root: Path
    name: str
    outputs_record: dict[str, Any]

    @property
    def folder(self) -> Path:
        model: str = self.outputs_record["settings"].get("model_name", "")
        return self.root / str(self.outputs_record["feature"]) / model.replace("/", "_").replace(":", "_")

    def array(self, key: str, format: Format) -> Path:
        return self.folder / f"{self.name}_{key}{format.suffix}"

    @property
    def record(self) -> Path:
        return self._of_feature(".json")

    @property
    def predictions(self) -> Path:
        return self._of_feature("_pred.jsonl")

    @property
    def preview(self) -> Path:
        return self._of_feature("_preview.mp4")

    def all_that_may_be(self) -> set[Path]:
        """Every file that an earlier run of the same feature may have left, in any format, but the record."""
        keys = (*self.outputs_record["arrays"], "padded_frames")
        arrays = {self.array(key, format) for key in keys for format in (NUMPY, PICKLE)}
        return {*arrays, self.predictions, self.preview}

    def _of_feature(self, ending: str) -> Path:
        return self.folder / f"{self.name}_{self.outputs_record['feature']}{ending}"


class _FileDraft(Draft):
    """Rows and a preview as files under temporary names, in the folder of the outputs, which they become."""

    def __init__(self, folder: Path, *, rows_in_files: bool, with_preview: bool) -> None:
        self._folder = folder
        self._rows_in_files = rows_in_files
        self._made: list[RowsInFile] = []
        if with_preview:
            from .preview import Preview

            self.preview = Preview(_temporary(folder))

    def rows(self, key: str, dtype: type[np.generic]) -> Rows:
        if not self._rows_in_files:
            return super().rows(key, dtype)
        self._made.append(RowsInFile(_temporary(self._folder), dtype))
        return self._made[-1]

    def close(self) -> None:
        for rows in self._made:
            rows.close()
        if self.preview is not None:
            self.preview.close()


Part = Callable[[IO[bytes]], object] | Path  # what writes a file, or a file that is whole under a temporary name


def _temporary(folder: Path) -> Path:
    return folder / f".{uuid.uuid4().hex}.tmp"


def _write_together(parts: Mapping[Path, Part], *, commit: Path, stale: set[Path]) -> None:
    """Write all parts under temporary names, then rename them, `commit` last: it vouches for the others.

    stale: files of an earlier run that these replace
    """
    commit.parent.mkdir(parents=True, exist_ok=True)
    temporary = {path: part if isinstance(part, Path) else _temporary(path.parent) for path, part in parts.items()}
    try:
        for path, part in parts.items():
            if not isinstance(part, Path):
                with temporary[path].open("xb") as file:
                    part(file)
        for old in (commit, *stale):
            old.unlink(missing_ok=True)
        for path in parts:
            temporary[path].replace(path)
    finally:
        for leftover in temporary.values():
            leftover.unlink(missing_ok=True)


def _dump_predictions(predictions: Mapping[str, list[Prediction]], file: IO[bytes]) -> None:
    for key, rows in predictions.items():
        for k, row in enumerate(rows):
            file.write((json.dumps({"row": k, "key": key, **row.as_json()}) + "\n").encode())


def _load_predictions(path: Path) -> dict[str, list[Prediction]]:
    rows: dict[str, list[Prediction]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        classes = tuple(Class(**one) for one in row["classes"])
        rows.setdefault(row["key"], []).append(Prediction(row["start_seconds"], row["end_seconds"], classes))
    return rows
