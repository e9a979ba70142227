"""Names the output files of one feature of one video, and writes the files as a unit."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ..errors import LongNameError, OutputError
from ..features import Class, Prediction
from .formats import RECORD_SUFFIX, Format, all_formats
from .provenance import Provenance


@dataclass(frozen=True)
class Extras:
    """Optional files beside the arrays.

    predictions: True to write the likeliest classes of each row, as JSON lines
    preview: True to write flow as a video
    """

    predictions: bool = False
    preview: bool = False


@dataclass(frozen=True)
class Paths:
    """The paths of the outputs of one feature of one video.

    folder: the folder of all outputs
    stem: the name of the video, with which the names of all outputs begin
    """

    folder: Path
    stem: str
    feature: str

    @classmethod
    def of(cls, root: Path, name: str, provenance: Provenance) -> Paths:
        """Return the paths below an output folder. name: `name`, or `folder/name` for outputs in a subfolder"""
        model = provenance.model_name.replace("/", "_").replace(":", "_")
        folder, _, stem = name.rpartition("/")
        return cls(root / provenance.feature / model / folder, stem, provenance.feature)

    def check_unshared(self, exists: Callable[[Path], bool]) -> None:
        """Raise OutputError if another video has outputs of which one would have the same name. See `names_sharing`."""
        for stem in names_sharing(self.stem):
            if exists(record := replace(self, stem=stem).record):
                raise OutputError(
                    f"one of its outputs would have the same name as one of the outputs of {record}: give the video an "
                    "id (a CSV with the columns path and id), or use a separate output_path"
                )

    def check_length(self, format: Format, extras: Extras, limits: NameLimits) -> None:
        """Raise LongNameError if the name of a file, or its path, would be longer than the file system allows."""
        files = (self.array("end_timestamps_ms", format), self.record, *self.extras(extras))
        length = max(len(os.fsencode(path.name)) for path in files)
        path_length = len(os.fsencode(self.folder)) + 1 + max(length, len(temporary_path(self.record).name))
        for what, found, limit in (("names", length, limits.name), ("paths", path_length, limits.path)):
            if found > limit:
                raise LongNameError(
                    f"the {what} of the outputs would be up to {found} bytes long, and the file system allows {limit}; "
                    "rename the video or give it a short id (a CSV with the columns path and id)"
                )

    def array(self, key: str, format: Format) -> Path:
        return self._ending(f"_{key}{format.suffix}")

    @property
    def record(self) -> Path:
        return self._of_feature(RECORD_SUFFIX)

    @property
    def predictions(self) -> Path:
        return self._of_feature("_pred.jsonl")

    @property
    def preview(self) -> Path:
        return self._of_feature("_preview.mp4")

    def extras(self, extras: Extras) -> list[Path]:
        """Return the paths of the requested extras."""
        wanted = {self.predictions: extras.predictions, self.preview: extras.preview}
        return [path for path, is_wanted in wanted.items() if is_wanted]

    def all_of(self, keys: Iterable[str]) -> set[Path]:
        """Return the paths of all possible outputs for arrays with these keys, in every format, without the record."""
        arrays = {self.array(key, format) for key in (*keys, "padded_frames") for format in all_formats()}
        return {*arrays, self.predictions, self.preview}

    def _of_feature(self, ending: str) -> Path:
        return self._ending(f"_{self.feature}{ending}")

    def _ending(self, ending: str) -> Path:
        return self.folder / f"{self.stem}{ending}"


def names_sharing(name: str) -> list[str]:
    """Return the names of videos that would share a file with the outputs of a video.

    `v_end_timestamps_ms.npy` holds the end times of the video `v`, and the start times of the video `v_end`.
    """
    return [f"{name}_end", *([name.removesuffix("_end")] if name.endswith("_end") else [])]


@dataclass(frozen=True)
class NameLimits:
    """The greatest length of a file name and of a path, in bytes. Defaults: what every usual file system allows."""

    name: int = 255
    path: int = sys.maxsize

    @classmethod
    def of(cls, root: Path) -> NameLimits:
        """The limits of the file system of a folder."""
        try:
            return cls(min(cls.name, os.pathconf(root, "PC_NAME_MAX")), os.pathconf(root, "PC_PATH_MAX") - 1)
        except (AttributeError, OSError, ValueError):  # not on Windows, or not known
            return cls()


Part = Callable[[IO[bytes]], object] | Path  # writes a file, or the path of a complete temporary file


def temporary_path(record: Path) -> Path:
    """Return a new temporary path in the folder of `record` for one of its outputs."""
    return record.with_name(f"{_temporary_prefix(record)}-{uuid.uuid4().hex}.tmp")


def remove_temporary(*records: Path) -> None:
    """Remove the temporary files that a killed process left for these records. Lists each folder once."""
    prefixes: defaultdict[Path, set[str]] = defaultdict(set)
    for record in records:
        prefixes[record.parent].add(_temporary_prefix(record))
    for folder, folder_prefixes in prefixes.items():
        for path in folder.glob(".*.tmp"):
            if path.name.partition("-")[0] in folder_prefixes:
                with suppress(OSError):  # the next run of the video tries again
                    path.unlink(missing_ok=True)


def _temporary_prefix(record: Path) -> str:
    return f".{digest(record.name)}"


def digest(text: str) -> str:
    """Return a short name for a text of any length: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def write_together(parts: Mapping[Path, Part], *, commit: Path, stale: set[Path]) -> None:
    """Write all parts under temporary names, then rename the files, `commit` last.

    parts: {path: content}, in the order in which the files are renamed
    commit: the record, whose existence marks the other files as complete; also the last key of `parts`
    stale: files of an earlier run to remove
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
    """Write predictions as JSON lines, one line for each row."""
    for key, rows in predictions.items():
        for index, row in enumerate(rows):
            file.write((json.dumps({"row": index, "key": key, **row.as_json()}) + "\n").encode())


def load_predictions(text: str) -> dict[str, list[Prediction]]:
    """Parse the JSON lines of `dump_predictions`. Raises ValueError, KeyError or TypeError for damaged text."""
    rows: dict[str, list[Prediction]] = {}
    for line in text.splitlines():
        row = json.loads(line)
        classes = tuple(Class(**fields) for fields in row["classes"])
        rows.setdefault(row["key"], []).append(Prediction(row["start_seconds"], row["end_seconds"], classes))
    return rows
