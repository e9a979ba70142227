"""Defines the results of an extraction: the features of one video, and the outcome of the video."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import OutputError, in_one_line
from .locations import Location, shown


@dataclass(frozen=True)
class Deferred:
    """An array in a `.npy` file that is fetched on first access.

    shape: (N, …)
    fetch: returns the path of the file
    """

    shape: tuple[int, ...]
    fetch: Callable[[], Path]


class Values(Mapping[str, npt.NDArray[Any]]):
    """Arrays by key, held in memory or stored in `.npy` files.

    An array in a file is returned as a read-only memory map, which is opened anew on each access. Data is therefore
    read only when it is used, and no file stays open.
    Raises OutputError on access if the file is missing, or was changed or replaced.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any] | Path | Deferred]) -> None:
        self._arrays = {key: array for key, array in arrays.items() if isinstance(array, np.ndarray)}
        self._deferred = {key: array for key, array in arrays.items() if isinstance(array, Deferred)}
        self.files = {key: array.absolute() for key, array in arrays.items() if isinstance(array, Path)}
        self._versions = {key: _version(path) for key, path in self.files.items()}
        self._keys = tuple(arrays)
        self._convert: Callable[[npt.NDArray[Any]], Any] | None = None

    def converted(self, convert: Callable[[npt.NDArray[Any]], Any]) -> Values:
        """Return the same arrays, each passed through `convert` on access.

        The memory maps are then copy-on-write: data can be changed in memory, which leaves the files as they are.
        """
        values = copy.copy(self)
        values._convert = convert
        return values

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of an array, without fetching its file."""
        return tuple(self._deferred[key].shape if key in self._deferred else self[key].shape)

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        array = self._array(key)
        return array if self._convert is None else self._convert(array)

    def _array(self, key: str) -> npt.NDArray[Any]:
        if key in self._arrays:
            return self._arrays[key]
        if key in self._deferred:
            return self._fetched(key, self._deferred[key])
        path = self.files[key]
        hint = "leave the file unchanged while these features are in use, or extract them again"
        try:
            if _version(path) != self._versions[key]:
                raise OutputError(f"{path}: {key} is read from this file, which was changed or replaced; {hint}")
            return self._map(path)
        except OSError as error:
            raise OutputError(f"{path}: {key} cannot be read from this file ({error.strerror}); {hint}") from error

    def _fetched(self, key: str, deferred: Deferred) -> npt.NDArray[Any]:
        path = deferred.fetch()
        try:
            view = self._map(path)
        except (OSError, ValueError) as error:
            raise OutputError(f"{path}: {key} cannot be read from this copy ({in_one_line(error)})") from error
        if view.shape != deferred.shape:
            raise OutputError(f"{key} has shape {view.shape}, recorded as {deferred.shape}; extract the features again")
        return view

    def _map(self, path: Path) -> npt.NDArray[Any]:
        try:
            view: npt.NDArray[Any] = np.load(path, mmap_mode="r" if self._convert is None else "c")
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path.name}: {error}") from error
        return view

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Values({ {**self._arrays, **self.files, **self._deferred} })"


def _version(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Class:
    """One class of a prediction: label, logit, and probability (softmax over all classes, 0 … 1)."""

    label: str
    logit: float
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one row, best first, and the time span of the row in seconds."""

    start_seconds: float
    end_seconds: float
    classes: tuple[Class, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_table(self) -> str:
        """Return a text table with the header `Logits | Prob. | Label` and one line per class."""
        lines = [f"{c.logit:8.3f} | {c.probability:.3f} | {c.label}" for c in self.classes]
        return "\n".join(["  Logits | Prob. | Label", *lines])


@dataclass(frozen=True)
class Features:
    """One feature of one video. Every array has one row per window, N in all.

    values: {key: float32 (N, …)}. If a family has a single output, the key is the feature's name. Saved flow is read
        from the file on access, see `Values`; it is float16 with `flow_dtype=float16`
    start_seconds, end_seconds: float64 (N,), the start of each row's first frame and the end of its last frame, or the
        start and end of its sound; the container's start is 0
    fps: frames per second of the frames used: the source's average rate, or `extraction_fps`. For sound, rows per
        second
    padded_frames: int64 (N,) with `tail=pad`, else None. For video, how many frames of each row repeat the last frame;
        for sound, how many spectrogram frames of each row reach beyond the end of the sound
    predictions: {key: one prediction per row} if `show_pred` was set, else None
    record: settings, weights, versions and source, as in the JSON file next to saved outputs
    """

    values: Mapping[str, npt.NDArray[np.floating[Any]]]
    start_seconds: npt.NDArray[np.float64]
    end_seconds: npt.NDArray[np.float64]
    fps: float
    padded_frames: npt.NDArray[np.int64] | None = None
    predictions: dict[str, list[Prediction]] | None = None
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {key: shape[0] for key, shape in self.shapes.items()}
        lengths |= {"start_seconds": len(self.start_seconds), "end_seconds": len(self.end_seconds)}
        if self.padded_frames is not None:
            lengths["padded_frames"] = len(self.padded_frames)
        lengths |= {f"predictions of {key}": len(rows) for key, rows in (self.predictions or {}).items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"expected one row per window in every array, found lengths {lengths}")

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.start_seconds)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the values, {key: (N, …)}."""
        if isinstance(self.values, Values):
            return {key: self.values.shape(key) for key in self.values}
        return {key: array.shape for key, array in self.values.items()}

    @property
    def feature(self) -> str:
        """The name of the feature; empty if it is not known."""
        return str(self.record.get("feature", ""))

    @property
    def model_name(self) -> str:
        """The name of the network; empty if the feature has no choice of networks."""
        return str(self.record.get("settings", {}).get("model_name") or "")

    @property
    def source(self) -> str:
        """The video: its absolute path, or its URL without credentials, query and fragment; empty if not known."""
        return shown(str(self.record.get("source", {}).get("path", "")))  # earlier versions recorded credentials

    @property
    def timestamps_ms(self) -> npt.NDArray[np.float64]:
        """Each row's start in milliseconds, float64 (N,)."""
        return _milliseconds(self.start_seconds)

    @property
    def end_timestamps_ms(self) -> npt.NDArray[np.float64]:
        """Each row's end in milliseconds, float64 (N,)."""
        return _milliseconds(self.end_seconds)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that are saved and printed, by key.

        These are the values, `fps`, `timestamps_ms`, `end_timestamps_ms` and, unless it is None, `padded_frames`.
        """
        times = {"timestamps_ms": self.timestamps_ms, "end_timestamps_ms": self.end_timestamps_ms}
        padded = {} if self.padded_frames is None else {"padded_frames": self.padded_frames}
        return {**self.values, "fps": np.array(self.fps), **times, **padded}


def _milliseconds(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.round(seconds * 1000, 9)  # 0.28 s is 280 ms, not 280.00000000000006


@dataclass(frozen=True)
class Outcome:
    """The outcome of extracting one feature from one video.

    location: the video's path, the name of an array, or the URL without its credentials, query and fragment
    status: `done`, `skipped` (complete outputs with the same settings already existed) or `failed`
    reason: why the feature failed or was skipped, as one line that names the video
    features: the extracted rows; None only if the status is `failed`
    files: the files that were written or already existed: paths or URLs
    elapsed_seconds: time from opening the video to writing the last file
    video_seconds: how many seconds of the video were read
    error: the type of the error, such as `MediaError`; empty unless the status is `failed`
    warnings: what was repaired, left out or contradictory in the video, one sentence each
    """

    location: str
    feature: str
    status: str
    reason: str = ""
    features: Features | None = None
    files: tuple[Location, ...] = ()
    elapsed_seconds: float = 0.0
    video_seconds: float = 0.0
    error: str = ""
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return a JSON-serializable dict. Of the features it contains only the number of rows."""
        return {
            "status": self.status,
            "feature": self.feature,
            "location": self.location,
            "reason": self.reason,
            "error": self.error,
            "rows": None if self.features is None else len(self.features),
            "elapsed_seconds": round(self.elapsed_seconds, 3),
            "video_seconds": round(self.video_seconds, 3),
            "files": [shown(path) for path in self.files],
            **({"warnings": list(self.warnings)} if self.warnings else {}),
        }


def real_time(video_seconds: float, elapsed_seconds: float) -> str:
    """Return how fast videos were processed: `×3.9 real time`."""
    factor = video_seconds / elapsed_seconds
    return f"×{factor:.2g} real time" if factor < 10 else f"×{factor:.0f} real time"
