"""Where features go: standard output, `.npy` or `.pkl` files. Files appear whole, or not at all."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import OutputError
from .features import Features
from .predictions import Class, Prediction

Array = npt.NDArray[Any]


class Sink(Protocol):
    """Takes the features of one video after another."""

    def existing(self, name: str, record: dict[str, Any], *, with_predictions: bool) -> Saved | None:
        """What this very run would write, if it is there already and whole; else None.

        record: feature, settings, weights and source, as `Features.record` has them
        Raises OutputError if what is there was made otherwise, or from another video.
        """

    def write(self, name: str, features: Features) -> tuple[Path, ...]:
        """Write one video's features; the files written. Raises OutputError where that fails."""


@dataclass(frozen=True)
class Saved:
    """Features read back from files."""

    features: Features
    files: tuple[Path, ...]


class NoSink:
    """Writes nothing: the features go to the caller alone."""

    def existing(self, name: str, record: dict[str, Any], *, with_predictions: bool) -> Saved | None:
        return None

    def write(self, name: str, features: Features) -> tuple[Path, ...]:
        return ()


class PrintSink(NoSink):
    """Prints every key, its array, then its largest, mean and smallest value."""

    def write(self, name: str, features: Features) -> tuple[Path, ...]:
        for key, array in features.arrays().items():
            print(key)
            print(array)
            print(f"max: {array.max():.8f}; mean: {array.mean():.8f}; min: {array.min():.8f}")
            print()
        return ()


@dataclass(frozen=True)
class Format:
    """A file format for one array."""

    suffix: str
    dump: Callable[[IO[bytes], Array], None]
    load: Callable[[IO[bytes]], Array]


NUMPY = Format(".npy", lambda file, array: np.save(file, array), lambda file: np.load(file))
PICKLE = Format(".pkl", lambda file, array: pickle.dump(array, file), lambda file: pickle.load(file))


class FileSink:
    """One file a key, in the reference tool's layout:

        {root}/{feature}/{model_name with / as _}/{name}_{key}{suffix}

    and beside them `{name}_{feature}.json`, the record, written last; and, where there are predictions,
    `{name}_{feature}_pred.jsonl`, a line a row.
    """

    def __init__(self, root: Path, format: Format, *, overwrite: bool = False) -> None:
        self._root = root
        self._format = format
        self._overwrite = overwrite
        self._written: dict[Path, str] = {}

    def existing(self, name: str, record: dict[str, Any], *, with_predictions: bool) -> Saved | None:
        sidecar = self._sidecar(name, record)
        if (earlier := self._written.get(sidecar, record["source"]["path"])) != record["source"]["path"]:
            raise OutputError(
                f"its outputs would have the names of those of {earlier}, written by this "
                "run; rename one of the two, or give each its own output_path"
            )
        if self._overwrite or not sidecar.exists():
            return None
        try:
            found = json.loads(sidecar.read_text(encoding="utf-8"))
            _check_same_source(sidecar, found["source"], record["source"])
            _check_same_settings(sidecar, found, record)
            return self._load(name, found, with_predictions=with_predictions)
        except OutputError:
            raise
        except Exception:  # any way in which files can be damaged or gone: made again
            return None

    def write(self, name: str, features: Features) -> tuple[Path, ...]:
        arrays = features.arrays()
        record = {**features.record, "arrays": list(arrays)}
        sidecar = self._sidecar(name, record)
        parts: list[tuple[Path, Callable[[IO[bytes]], object]]] = [
            (self._file(name, record, key), lambda file, array=array: self._format.dump(file, array))  # type: ignore[misc]
            for key, array in arrays.items()
        ]
        if features.predictions is not None:
            lines = [
                json.dumps({"row": k, "key": key, **row.as_json()})
                for key, rows in features.predictions.items()
                for k, row in enumerate(rows)
            ]
            parts.append((self._predictions(name, record), lambda file: file.write("\n".join([*lines, ""]).encode())))
        text = json.dumps(record, indent=2) + "\n"
        parts.append((sidecar, lambda file: file.write(text.encode())))
        # Files of another run, for which the new record would vouch. Without `overwrite`, what is there is this run's.
        stale = self._all_files(name, record) if self._overwrite else set()
        try:
            _write_together(parts, commit=sidecar, stale=stale - {path for path, _ in parts})
        except OSError as error:
            raise OutputError(
                f"{error.filename or sidecar.parent}: cannot be written ({error.strerror or error})"
            ) from error
        self._written[sidecar] = record["source"]["path"]
        return tuple(path for path, _ in parts)

    def _load(self, name: str, record: dict[str, Any], *, with_predictions: bool) -> Saved:
        """Everything that the record promises; an error of any kind where it is not there or not whole."""
        shapes = record["shapes"]
        arrays = {}
        for key in record["arrays"]:
            with self._file(name, record, key).open("rb") as file:
                arrays[key] = self._format.load(file)
            if list(arrays[key].shape) != shapes.get(key, list(arrays[key].shape)):
                raise ValueError(f"{key} has shape {arrays[key].shape}, recorded as {shapes[key]}")
        files = [*(self._file(name, record, key) for key in arrays), self._sidecar(name, record)]
        if with_predictions:
            files.append(self._predictions(name, record))
        features = Features(
            values={key: arrays[key] for key in shapes},
            start_seconds=arrays["timestamps_ms"] / 1000,
            end_seconds=arrays["end_timestamps_ms"] / 1000,
            fps=float(arrays["fps"]),
            padded_frames=arrays.get("padded_frames"),
            predictions=self._load_predictions(name, record) if with_predictions else None,
            record=record,
        )
        return Saved(features, tuple(files))

    def _load_predictions(self, name: str, record: dict[str, Any]) -> dict[str, list[Prediction]]:
        rows: dict[str, list[Prediction]] = {}
        for line in self._predictions(name, record).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            classes = tuple(Class(**one) for one in row["classes"])
            rows.setdefault(row["key"], []).append(Prediction(row["start_seconds"], row["end_seconds"], classes))
        return rows

    def _all_files(self, name: str, record: dict[str, Any]) -> set[Path]:
        """Every file that an earlier run of the same feature may have left, in any format."""
        keys = (*record["arrays"], "padded_frames")
        arrays = {self._folder(record) / f"{name}_{key}{format.suffix}" for key in keys for format in (NUMPY, PICKLE)}
        return {*arrays, self._predictions(name, record)}

    def _folder(self, record: dict[str, Any]) -> Path:
        model: str = record["settings"].get("model_name", "")
        return self._root / str(record["feature"]) / model.replace("/", "_").replace(":", "_")

    def _file(self, name: str, record: dict[str, Any], key: str) -> Path:
        return self._folder(record) / f"{name}_{key}{self._format.suffix}"

    def _sidecar(self, name: str, record: dict[str, Any]) -> Path:
        return self._folder(record) / f"{name}_{record['feature']}.json"

    def _predictions(self, name: str, record: dict[str, Any]) -> Path:
        return self._folder(record) / f"{name}_{record['feature']}_pred.jsonl"


def _write_together(parts: list[tuple[Path, Callable[[IO[bytes]], object]]], *, commit: Path, stale: set[Path]) -> None:
    """Write all parts under temporary names, then rename them, `commit` last: it vouches for the others.

    stale: files of an earlier run that these replace
    """
    commit.parent.mkdir(parents=True, exist_ok=True)
    temporary = {path: path.with_name(f".{uuid.uuid4().hex}.tmp") for path, _ in parts}
    try:
        for path, dump in parts:
            with temporary[path].open("xb") as file:
                dump(file)
        for old in (commit, *stale):
            old.unlink(missing_ok=True)
        for path, _ in parts:
            temporary[path].replace(path)
    finally:
        for leftover in temporary.values():
            leftover.unlink(missing_ok=True)


def _check_same_source(sidecar: Path, found: dict[str, Any], ours: dict[str, Any]) -> None:
    if found["path"] != ours["path"]:
        raise OutputError(
            f"the outputs of its name are of another video, {found['path']} (says {sidecar}); "
            "rename one of the two, give another output_path, or overwrite (--overwrite) to replace them"
        )
    if found["size_bytes"] != ours["size_bytes"]:
        raise OutputError(
            f"has changed since {sidecar} was written (then {found['size_bytes']} bytes, now "
            f"{ours['size_bytes']}); overwrite (--overwrite) makes its features anew"
        )


def _check_same_settings(sidecar: Path, found: dict[str, Any], ours: dict[str, Any]) -> None:
    def compared(record: dict[str, Any]) -> dict[str, Any]:
        of_stills = {"source_fps": record["source"]["fps"]}  # a video's own cannot differ
        weights = {f"weights of {key}": one["sha256"] for key, one in record["weights"].items()}
        return {**record["settings"], **of_stills, **weights}

    then, now = compared(found), compared(ours)
    differing = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    if differing:
        changes = ", ".join(f"{key} was {then.get(key)} and is {now.get(key)}" for key in differing)
        raise OutputError(
            f"has features made with other settings ({changes}; says {sidecar}); "
            "give another output_path, or overwrite (--overwrite) to replace them"
        )
