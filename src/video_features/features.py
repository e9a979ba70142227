"""What an extraction gives: the rows of one feature of one video, and how the video ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import OutputError
from .locations import Location


class Values(Mapping[str, npt.NDArray[Any]]):
    """Arrays by key, in memory or in `.npy` files; of a file, a read-only view, made anew each time it is asked for.

    So nothing is read before it is used, nor more of it than is used, and no file is held open.
    Raises OutputError where a file is gone, or was replaced, by the time it is asked for.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any] | Path]) -> None:
        self._arrays = {key: array for key, array in arrays.items() if not isinstance(array, Path)}
        self.files = {key: array.absolute() for key, array in arrays.items() if isinstance(array, Path)}
        self._versions = {key: _version(path) for key, path in self.files.items()}
        self._keys = tuple(arrays)

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        if key not in self.files:
            return self._arrays[key]
        path = self.files[key]
        what_to_do = "keep the file as it was for as long as these features are used, or extract them again"
        try:
            if _version(path) != self._versions[key]:
                raise OutputError(f"{path}: {key} is read from this file, which was changed or replaced; {what_to_do}")
            view: npt.NDArray[Any] = np.load(path, mmap_mode="r")
            return view
        except OSError as error:
            raise OutputError(
                f"{path}: {key} is read from this file, and it cannot be ({error.strerror}); {what_to_do}"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Values({ {**self._arrays, **self.files} })"


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Class:
    """One class of a prediction: its label, its logit, and its probability (softmax over all classes)."""

    label: str
    logit: float
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one row, best first, and the seconds that the row covers."""

    start_seconds: float
    end_seconds: float
    classes: tuple[Class, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_table(self) -> str:
        """`Logits | Prob. | Label` over a line a class."""
        lines = [f"{one.logit:8.3f} | {one.probability:.3f} | {one.label}" for one in self.classes]
        return "\n".join(["  Logits | Prob. | Label", *lines])


@dataclass(frozen=True)
class Features:
    """One feature of one video; every array has a row for each window.

    values: {key: float32 (N, …)}; for a family of one output the key is the feature's name. Flow that was saved is
        read from its file, see `Values`; with `flow_dtype=float16` it is that
    start_seconds, end_seconds: float64 (N,), when each row's first frame starts and its last one ends, or when its
        sound does; the container's start is 0
    fps: frames per second of the frames used: the source's average, or `extraction_fps`; of sound, rows per second
    padded_frames: with `tail=pad`, int64 (N,): how many of each row's frames repeat the last one, or of sound how many
        frames of its spectrogram reach beyond the sound's end; else None
    predictions: {key: one a row} where `show_pred` was asked for, else None
    record: settings, weights, versions and source, as the JSON file beside saved outputs has them
    """

    values: Mapping[str, npt.NDArray[np.floating[Any]]]
    start_seconds: npt.NDArray[np.float64]
    end_seconds: npt.NDArray[np.float64]
    fps: float
    padded_frames: npt.NDArray[np.int64] | None = None
    predictions: dict[str, list[Prediction]] | None = None
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {key: len(array) for key, array in self.values.items()}
        lengths |= {"start_seconds": len(self.start_seconds), "end_seconds": len(self.end_seconds)}
        if self.padded_frames is not None:
            lengths["padded_frames"] = len(self.padded_frames)
        lengths |= {f"predictions of {key}": len(rows) for key, rows in (self.predictions or {}).items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"features need one row a window everywhere, found lengths {lengths}")

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.start_seconds)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of the values, {key: (N, …)}."""
        return {key: array.shape for key, array in self.values.items()}

    @property
    def timestamps_ms(self) -> npt.NDArray[np.float64]:
        """Each row's start in milliseconds, (N,)."""
        return _milliseconds(self.start_seconds)

    @property
    def end_timestamps_ms(self) -> npt.NDArray[np.float64]:
        """Each row's end in milliseconds, (N,)."""
        return _milliseconds(self.end_seconds)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What is saved and printed, by key: the values, `fps`, `timestamps_ms`, `end_timestamps_ms`, and
        `padded_frames` where there are any to tell of."""
        times = {"timestamps_ms": self.timestamps_ms, "end_timestamps_ms": self.end_timestamps_ms}
        padded = {} if self.padded_frames is None else {"padded_frames": self.padded_frames}
        return {**self.values, "fps": np.array(self.fps), **times, **padded}


def _milliseconds(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.round(seconds * 1000, 9)  # 0.28 s is 280 ms, not 280.00000000000006


@dataclass(frozen=True)
class Outcome:
    """How one feature of one video ended.

    location: the video's path or URL, or an array's name
    status: `done`, `skipped` (this run's outputs were there already, whole) or `failed`
    reason: why it failed or was skipped, in a line that names the video
    features: the rows; None only where it failed
    files: what was written, or was found there: paths, or URLs
    elapsed_seconds: time from opening the video to the last file
    video_seconds: how much of the video was read for it
    error: the kind of error that it failed with, such as `MediaError`
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

    def as_json(self) -> dict[str, Any]:
        """What can be written of it as JSON: the features by their number of rows alone."""
        return {
            "status": self.status,
            "feature": self.feature,
            "location": self.location,
            "reason": self.reason,
            "error": self.error,
            "rows": None if self.features is None else len(self.features),
            "elapsed_seconds": round(self.elapsed_seconds, 3),
            "video_seconds": round(self.video_seconds, 3),
            "files": [str(path) for path in self.files],
        }
