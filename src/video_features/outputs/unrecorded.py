"""Reads outputs without a record, as the reference tool, v-iashin/video_features, writes them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError, with_kind
from ..features import Features, Values
from ..locations import absolute, shown
from .folders import Folder, joined
from .formats import Format, all_formats

OURS = ("end_timestamps_ms", "padded_frames")  # only this package writes these, and then a record
TIMES = ("fps", "timestamps_ms")
I3D = ("rgb", "flow")  # the keys of i3d; every other feature has its own name as its key


@dataclass(frozen=True)
class Unrecorded:
    """The files of one feature of one video. files: {key: name}"""

    folder: Folder
    stem: str
    feature: str
    format: Format
    files: dict[str, str]

    @property
    def file(self) -> str:
        """The name of the first file of values."""
        return next(name for key, name in self.files.items() if key not in TIMES)

    @property
    def known(self) -> dict[str, Any]:
        """What takes the place of a record: the feature, the name of the video, and the model as in the folder."""
        folder, parent = _names(self.folder)
        settings = {"model_name": folder} if parent == self.feature else {}
        return {"feature": self.feature, "settings": settings, "source": {"path": self.stem}}

    def load(self) -> Features:
        try:
            return self._load()
        except Exception as error:  # the files are missing or damaged in any way
            where = shown(joined(self.folder.location, self.file))
            raise OutputError(f"{where}: features cannot be read ({with_kind(error)})") from error

    def _load(self) -> Features:
        def read(key: str) -> Any:
            return self.folder.array(self.files[key], self.format, mapped=key not in TIMES)

        values = Values({key: read(key) for key in self.files if key not in TIMES})
        shapes = {key: values.shape(key) for key in values}
        if not all(shapes.values()):
            raise ValueError("expected an array of rows, found a single number")
        rows = next(iter(shapes.values()))[0]
        start = end = np.full(rows, np.nan)
        if "timestamps_ms" in self.files:
            times = np.ravel(read("timestamps_ms")).astype(np.float64)[:rows] / 1000  # flow has a row less than times
            if len(times) != rows:
                raise ValueError(f"{rows} rows, but {len(times)} timestamps")
            # The reference tool writes the time of the last frame of each row of i3d.
            start, end = (start, times) if self.feature == "i3d" else (times, end)
        return Features(
            values=values,
            start_seconds=start,
            end_seconds=end,
            fps=float(read("fps")) if "fps" in self.files else np.nan,
            record={**self.known, "shapes": {key: list(shape) for key, shape in shapes.items()}},
        )


def unrecorded(folder: Folder, names: Collection[str], *, also: str = "") -> Iterator[Unrecorded]:
    """Yield the outputs without a record among the files of a folder.

    names: the names of the files that belong to no record
    also: the name of a file whose values count as features whatever the names of the folders are. Other values count
        if their folder, or the folder above, is named after the feature, or if there are times beside them
    """
    for format in all_formats():
        found: dict[str, dict[str, str]] = {}
        for name in names:
            if name.endswith(format.suffix) and not name.startswith("."):
                stem, key = _split(name.removesuffix(format.suffix))
                found.setdefault(stem, {})[key] = name
        _reassign_times(found)
        for stem, files in sorted(found.items()):
            if not files.keys() & set(OURS):
                yield from _of_video(folder, stem, format, files, also)


def _reassign_times(found: dict[str, dict[str, str]]) -> None:
    """Give `v_end_timestamps_ms.npy` to the video `v_end` if there is one, and not as end times to the video `v`."""
    for stem, files in found.items():
        others = found.get(f"{stem}_end", {})
        if OURS[0] in files and others and not others.keys() & {*OURS, TIMES[1]}:
            others[TIMES[1]] = files.pop(OURS[0])


def _of_video(folder: Folder, stem: str, format: Format, files: dict[str, str], also: str) -> Iterator[Unrecorded]:
    times = {key: files[key] for key in TIMES if key in files}
    features: dict[str, dict[str, str]] = {}
    for key in sorted(files.keys() - times.keys(), reverse=True):  # rgb before flow, as in i3d's record
        features.setdefault("i3d" if key in I3D else key, {})[key] = files[key]
    for feature, values in features.items():
        if times or feature in _names(folder) or also in values.values():
            yield Unrecorded(folder, stem, feature, format, {**values, **times})


def _split(name: str) -> tuple[str, str]:
    """Split the name of a file without its suffix into the name of the video and the key."""
    for key in (*OURS, *TIMES):  # the longest first: timestamps_ms ends end_timestamps_ms
        if name.endswith(f"_{key}"):
            return name.removesuffix(f"_{key}"), key
    stem, _, key = name.rpartition("_")
    return stem, key


def _names(folder: Folder) -> tuple[str, str]:
    """Return the names of a folder and of the folder above."""
    location = folder.location
    parts = absolute(location).parts if isinstance(location, Path) else tuple(location.split("/"))
    return parts[-1], parts[-2] if len(parts) > 1 else ""
