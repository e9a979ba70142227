"""The files of one feature of one video: their formats, their names, and writing them together."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import OutputError
from ..features import Class, Prediction
from .provenance import Provenance
from .rows import Array


@dataclass(frozen=True)
class Format:
    """A file format for one array. grows: whether a file may be written row by row, and read in parts."""

    suffix: str
    dump: Callable[[Array, IO[bytes]], None]
    load: Callable[[IO[bytes]], Array]
    grows: bool


def _save(array: Array, file: IO[bytes]) -> None:
    np.save(file, array)


NUMPY = Format(".npy", _save, np.load, grows=True)
PICKLE = Format(".pkl", pickle.dump, pickle.load, grows=False)


@dataclass(frozen=True)
class Extras:
    """What is written beside the arrays where it was asked for.

    predictions: the likeliest classes of each row, as JSON lines
    preview: flow as a video to look at
    """

    predictions: bool = False
    preview: bool = False


@dataclass(frozen=True)
class Paths:
    """Where the outputs of one feature of one video go.

    name: the video's; below a folder, `folder/name`
    """

    root: Path
    name: str
    provenance: Provenance

    @cached_property
    def folder(self) -> Path:
        model = self.provenance.model_name.replace("/", "_").replace(":", "_")
        return self.root / self.provenance.feature / model / self.name.rpartition("/")[0]

    def check_length(self) -> None:
        """Raise OutputError where the names of the files would be longer than file systems take."""
        if (length := len(os.fsencode(self.array("end_timestamps_ms", NUMPY).name))) > LONGEST_NAME:
            raise OutputError(
                f"the names of its outputs would have up to {length} bytes, and file systems take {LONGEST_NAME}; "
                "rename it, or give it a short id (a CSV with the columns path and id)"
            )

    def array(self, key: str, format: Format) -> Path:
        return self._ending(f"_{key}{format.suffix}")

    @property
    def record(self) -> Path:
        return self._of_feature(".json")

    @property
    def predictions(self) -> Path:
        return self._of_feature("_pred.jsonl")

    @property
    def preview(self) -> Path:
        return self._of_feature("_preview.mp4")

    def all_of(self, keys: Iterable[str]) -> set[Path]:
        """Every file that there may be where the arrays have these keys, in any format; but not the record."""
        arrays = {self.array(key, format) for key in (*keys, "padded_frames") for format in (NUMPY, PICKLE)}
        return {*arrays, self.predictions, self.preview}

    def _of_feature(self, ending: str) -> Path:
        return self._ending(f"_{self.provenance.feature}{ending}")

    def _ending(self, ending: str) -> Path:
        return self.folder / f"{self.name.rpartition('/')[2]}{ending}"


LONGEST_NAME = 255
Part = Callable[[IO[bytes]], object] | Path  # what writes a file, or a file that is whole under a temporary name


def temporary_path(record: Path) -> Path:
    """A name for a file that is to become one of those beside `record`."""
    return record.with_name(f"{_temporary_start(record)}-{uuid.uuid4().hex}.tmp")


def remove_temporary(*records: Path) -> None:
    """Remove what was to become files beside these, when its process was killed. Looks through each folder once."""
    starts: defaultdict[Path, set[str]] = defaultdict(set)
    for record in records:
        starts[record.parent].add(_temporary_start(record))
    for folder, its in starts.items():
        for path in folder.glob(".*.tmp"):
            if path.name.partition("-")[0] in its:
                with suppress(OSError):  # the next one that takes it tries again
                    path.unlink(missing_ok=True)


def _temporary_start(record: Path) -> str:
    return f".{digest(record.name)}"


def digest(text: str) -> str:
    """A short name for a text of any length."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def write_together(parts: Mapping[Path, Part], *, commit: Path, stale: set[Path]) -> None:
    """Write all parts under temporary names, then rename them, `commit` last: it vouches for the others.

    stale: files of an earlier run that these replace
    """
    commit.parent.mkdir(parents=True, exist_ok=True)
    temporary = {path: part if isinstance(part, Path) else temporary_path(commit) for path, part in parts.items()}
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


def dump_predictions(predictions: Mapping[str, list[Prediction]], file: IO[bytes]) -> None:
    for key, rows in predictions.items():
        for k, row in enumerate(rows):
            file.write((json.dumps({"row": k, "key": key, **row.as_json()}) + "\n").encode())


def load_predictions(text: str) -> dict[str, list[Prediction]]:
    rows: dict[str, list[Prediction]] = {}
    for line in text.splitlines():
        row = json.loads(line)
        classes = tuple(Class(**one) for one in row["classes"])
        rows.setdefault(row["key"], []).append(Prediction(row["start_seconds"], row["end_seconds"], classes))
    return rows
