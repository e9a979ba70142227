"""Reads saved features back: the functions `load_features` and `iter_features`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from ..errors import OutputError, SettingsError, VideoFeaturesError, with_kind
from ..features import Features, Values
from ..locations import EMPTY_PATH, Location, explained, location_of, shown, why_missing
from ..settings import unknown
from .base import StoredFeatures
from .folders import Folder, LocalFolder, StoreFolder, joined
from .formats import RECORD_SUFFIX, Format, all_formats
from .layout import Paths
from .provenance import OutputRecord
from .unrecorded import Unrecorded, unrecorded

TO = ("numpy", "torch")
RERUN = "the command that wrote it makes it anew"


def load_features(path: str | PathLike[str], *, to: str = "numpy") -> Features:
    """Read the saved features of one video back.

        features = load_features("output/clip/ViT-B_32/video_clip.npy")
        features.values["clip"][10:20], features.start_seconds, features.source

    path: any file of the video's outputs (`video_clip.npy`, `video_timestamps_ms.npy`, `video_clip.pkl`, the record
        `video_clip.json` …), or a folder that has the outputs of one video and feature. A local path, or a URL in a
        store (`s3://…`). The outputs may be those of the reference tool, v-iashin/video_features
    to: `numpy`, or `torch` for values that are tensors on the same memory maps, which share no change with the files

    Values in `.npy` files are mapped into memory: only what is used is read, and all of it may be larger than memory.
    From a store, each value is downloaded to a temporary file when it is first used, and mapped from there; the file is
    removed with the features. Pickles and other formats are read into memory.

    Without a record, as from the reference tool, `record`, `source` and `model_name` are what the names of the files
    and folders tell, and times that no file gives are NaN.

    Raises OutputError if there is no such file, if the outputs are unfinished or damaged, or if the folder has several.
    """
    _check_to(to)
    location = _location(path)
    found = list(_first_two(location))
    if len(found) > 1:
        one, other = (shown(joined(output.folder.location, output.file)) for output in found)
        raise OutputError(
            f"{shown(location)}: has the outputs of more than one video or feature ({one}, {other}); name a file of "
            "one of them, or iterate over all of them with iter_features"
        )
    if not found:
        raise OutputError(f"{shown(location)}: no finished outputs were found in this folder or below it")
    return _load(found[0], to)


def iter_features(folder: str | PathLike[str], feature: str | None = None, *, to: str = "numpy") -> Iterator[Features]:
    """Iterate over all finished outputs in an output folder, in the order of their folders and names.

        for features in iter_features("output", "clip"):
            print(features.source, features.model_name, len(features))

    folder: the `output_path` of a run, or a folder in it; a local path or a URL. See `load_features`
    feature: only this feature; None: every feature
    to: see `load_features`

    Each `Features` knows its `source`, `feature`, `model_name`, `record` and `shapes` from the record alone. The arrays
    are read on first access, which raises OutputError if they are damaged. Unfinished outputs are left out.

    Raises OutputError if the folder does not exist, or if there are only outputs of other features.
    """
    _check_to(to)
    location = _location(folder)
    if not _is_folder(location):
        raise OutputError(f"{shown(location)}: expected a folder, found a file; load_features reads the outputs of one")
    return _each_features(_folder(location), feature, to)


def _each_features(folder: Folder, feature: str | None, to: str) -> Iterator[Features]:
    has_found, others = False, set[str]()
    for output in _below(folder):
        if feature in (None, output.feature):
            has_found = True
            yield StoredFeatures(partial(_load, output, to), output.known, reads_predictions=True)
        else:
            others.add(output.feature)
    if others and not has_found:
        raise OutputError(f"{shown(folder.location)}: no outputs of {feature!r}, only of {', '.join(sorted(others))}")


@dataclass(frozen=True)
class _Recorded:
    """Finished outputs with a record.

    file: the name of the record
    """

    folder: Folder
    file: str
    stem: str
    record: OutputRecord
    format: Format

    @property
    def feature(self) -> str:
        return self.record.provenance.feature

    @property
    def known(self) -> dict[str, Any]:
        return self.record.as_json()

    def load(self) -> Features:
        try:
            return self.folder.load(self.stem, self.record, self.format)
        except VideoFeaturesError:
            raise
        except Exception as error:  # the files are missing or damaged in any way
            where = shown(joined(self.folder.location, self.file))
            raise OutputError(f"{where}: features cannot be read ({with_kind(error)}); {RERUN}") from error


_Output = _Recorded | Unrecorded


def _load(output: _Output, to: str) -> Features:
    features = output.load()
    if to == "numpy":
        return features
    import torch

    values = features.values if isinstance(features.values, Values) else Values(features.values)
    return replace(features, values=values.converted(torch.from_numpy))


def _first_two(location: Location) -> Iterator[_Output]:
    """Yield the outputs that a path stands for: one of a file, one or two of the outputs in a folder."""
    if _is_folder(location):
        for _, output in zip(range(2), _below(_folder(location)), strict=False):
            yield output
        return
    parent, name = _split(location)
    yield _output_of(_folder(parent), name)


def _below(folder: Folder) -> Iterator[_Output]:
    """Yield the finished outputs in a folder and its subfolders."""
    covered = set[str]()
    for name in folder.names:
        if name.endswith(RECORD_SUFFIX) and (found := _record(folder, name)) is not None:
            stem, record = found
            covered |= _files(stem, record)
            if (format := _format_of(folder, stem, record)) is not None:
                yield _Recorded(folder, name, stem, record, format)
    yield from unrecorded(folder, [name for name in folder.names if name not in covered])
    for subfolder in folder.folders():
        yield from _below(subfolder)


def _output_of(folder: Folder, name: str) -> _Output:
    """Return the outputs to which a file belongs. Raises OutputError if there are none, or if they are unfinished."""
    where = shown(joined(folder.location, name))
    is_record = name.endswith(RECORD_SUFFIX)
    for candidate in [name] if is_record else _may_belong(name, folder.names):
        found = _record(folder, candidate)
        if found is None or name not in {candidate, *_files(*found)}:
            continue
        if (format := _format_of(folder, *found, preferred=Path(name).suffix)) is None:
            raise OutputError(f"{where}: the outputs are unfinished, some files are missing; {RERUN}")
        return _Recorded(folder, candidate, *found, format)
    if is_record:
        raise OutputError(f"{where}: not the record of outputs, or damaged; {RERUN}")
    for output in unrecorded(folder, folder.names, also=name):
        if name in output.files.values():
            return output
    suffixes = [format.suffix for format in all_formats()]
    if any(name.endswith(suffix) for suffix in suffixes):
        raise OutputError(f"{where}: the outputs are unfinished, they have no record; {RERUN}")
    raise OutputError(f"{where}: not a file of saved features: expected {', '.join(suffixes)} or {RECORD_SUFFIX}")


def _may_belong(name: str, names: Iterable[str]) -> list[str]:
    """Return the names of the records that begin with the same words as a file, words end at a `_`; likeliest first.

    The records need not be read for this: there may be thousands with names such as `video_0001_clip.json`.
    """

    def words_in_common(record: str) -> int:
        pairs = zip(name.split("_"), record.split("_"), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    records = (record for record in names if record.endswith(RECORD_SUFFIX) and words_in_common(record))
    return sorted(records, key=words_in_common, reverse=True)


def _record(folder: Folder, name: str) -> tuple[str, OutputRecord] | None:
    """Return the name of the video and the record, or None if the file is not the record of outputs, or is damaged."""
    try:
        record = OutputRecord.from_json(json.loads(folder.read(name)))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None  # replaced at this moment, or any other JSON file
    except Exception as error:  # each store raises its own types
        where = joined(folder.location, name)
        raise OutputError(f"{shown(where)}: cannot be read ({explained(error, str(where))})") from error
    ending = f"_{record.provenance.feature}{RECORD_SUFFIX}"
    return (name.removesuffix(ending), record) if name.endswith(ending) and record.shapes else None


def _files(stem: str, record: OutputRecord) -> set[str]:
    """Return the names of all files that may belong to a record, without the record itself."""
    return {path.name for path in Paths(Path(), stem, record.provenance.feature).all_of(record.arrays)}


def _format_of(folder: Folder, stem: str, record: OutputRecord, preferred: str = "") -> Format | None:
    """Return the format in which all arrays of a record exist, first `preferred`, a suffix; None if there is none."""
    paths = Paths(Path(), stem, record.provenance.feature)
    formats = sorted(all_formats(), key=lambda format: (format.suffix != preferred, not format.is_npy))
    is_there = (all(folder.has(paths.array(key, format).name) for key in record.arrays) for format in formats)
    return next((format for format, found in zip(formats, is_there, strict=True) if found and record.arrays), None)


def _check_to(to: str) -> None:
    if to not in TO:
        raise SettingsError(unknown("to", to, TO))


def _location(path: str | PathLike[str]) -> Location:
    if not fspath(path).strip():
        raise SettingsError(f"path: {EMPTY_PATH}")
    return location_of(path)


def _folder(location: Location) -> Folder:
    return LocalFolder(location) if isinstance(location, Path) else StoreFolder(location)


def _is_folder(location: Location) -> bool:
    """Whether a path is a folder. Raises OutputError if there is neither a folder nor a file."""
    if isinstance(location, Path):
        try:
            location.stat()
        except (OSError, ValueError) as error:
            raise OutputError(f"{location}: {why_missing(location, error).replace('file', 'file or folder')}") from None
        return location.is_dir()
    parent, name = _split(location)
    is_bucket = str(parent).endswith("/")
    if not is_bucket and StoreFolder(str(parent)).has(name):
        return False
    if StoreFolder(location).is_empty():
        raise OutputError(f"{shown(location)}: no such file or folder")
    return True


def _split(location: Location) -> tuple[Location, str]:
    if isinstance(location, Path):
        return location.parent, location.name
    parent, _, name = location.rpartition("/")
    return parent, name
