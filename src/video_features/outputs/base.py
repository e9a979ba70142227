"""Defines the interface of sinks, and the sink that writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..features import Features, Prediction, Values
from ..locations import Location
from .layout import Extras
from .provenance import OutputRecord, Provenance, SourceRecord
from .rows import Array, Staging


class Sink(Protocol):
    """Stores the features of videos, one video at a time."""

    @property
    def root(self) -> Location | None:
        """The folder or URL of the files; None if there are no files."""

    def existing(self, name: str, provenance: Provenance, source: SourceRecord, extras: Extras) -> Saved | None:
        """Return the outputs that this run would write if they exist and are complete, else None.

        Raises OutputError if the outputs were written with other settings or weights, or for another video.
        """

    def record_path(self, name: str, provenance: Provenance) -> Path | None:
        """Return the path of the record, which is written last and marks the outputs as complete.

        None if the outputs are not local files.
        """

    def stage(self, name: str, provenance: Provenance, extras: Extras) -> Staging:
        """Return the staging area for the features of one video."""

    def write(self, name: str, features: Features, staging: Staging) -> Saved:
        """Write the features of one video, partly staged in `staging`. Raises OutputError if writing fails."""

    def stored(self, name: str, features: Features) -> Features:
        """Return written or existing features in a form that reads the arrays from the files on first access."""


@dataclass(frozen=True)
class Saved:
    """Features and the files that hold them, if any."""

    features: Features
    files: tuple[Location, ...]


class NoSink:
    """Writes nothing; only the caller gets the features."""

    root = None

    def existing(self, name: str, provenance: Provenance, source: SourceRecord, extras: Extras) -> Saved | None:
        return None

    def record_path(self, name: str, provenance: Provenance) -> Path | None:
        return None

    def stage(self, name: str, provenance: Provenance, extras: Extras) -> Staging:
        return Staging()

    def write(self, name: str, features: Features, staging: Staging) -> Saved:
        return Saved(features, ())

    def stored(self, name: str, features: Features) -> Features:
        return features


class StoredFeatures(Features):
    """Features that are read from files on first access to an array, and then kept in memory.

    load: reads the features; raises OutputError if the files are missing or damaged
    record: see `Features`
    predictions: see `Features`
    reads_predictions: True if `load` reads the predictions, too
    """

    def __init__(
        self,
        load: Callable[[], Features],
        record: dict[str, Any],
        predictions: dict[str, list[Prediction]] | None = None,
        *,
        reads_predictions: bool = False,
    ) -> None:
        vars(self).update(load=load, record=record, known_predictions=predictions, reads_predictions=reads_predictions)

    def __getstate__(self) -> dict[str, Any]:
        """Another process reads the files itself: what has been read may hold temporary files of this process."""
        return {name: value for name, value in vars(self).items() if name != "_loaded"}

    @cached_property
    def _loaded(self) -> Features:
        load: Callable[[], Features] = vars(self)["load"]
        return load()

    @property
    def values(self) -> Mapping[str, npt.NDArray[np.floating[Any]]]:
        return self._loaded.values

    @property
    def start_seconds(self) -> npt.NDArray[np.float64]:
        return self._loaded.start_seconds

    @property
    def end_seconds(self) -> npt.NDArray[np.float64]:
        return self._loaded.end_seconds

    @property
    def fps(self) -> float:
        return self._loaded.fps

    @property
    def padded_frames(self) -> npt.NDArray[np.int64] | None:
        return self._loaded.padded_frames

    @property
    def predictions(self) -> dict[str, list[Prediction]] | None:
        known: dict[str, list[Prediction]] | None = vars(self)["known_predictions"]
        return self._loaded.predictions if vars(self)["reads_predictions"] else known

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        if "shapes" not in self.record:
            return self._loaded.shapes
        return {key: tuple(shape) for key, shape in self.record["shapes"].items()}

    def __len__(self) -> int:
        return next(iter(self.shapes.values()))[0]

    def __repr__(self) -> str:
        return f"StoredFeatures({self.shapes})"


def as_features(values: Mapping[str, Array], arrays: Mapping[str, Array], record: OutputRecord) -> Features:
    """Build features from the arrays and the record of their files.

    arrays: at least the arrays other than the values, with the keys of `Features.arrays`
    Raises ValueError if a value does not have the recorded shape, KeyError if an array is missing.
    """
    for key, shape in record.shapes.items():
        found = values.shape(key) if isinstance(values, Values) else values[key].shape
        if list(found) != shape:
            raise ValueError(f"{key} has shape {found}, recorded as {shape}")
    return Features(
        values=values,
        start_seconds=arrays["timestamps_ms"] / 1000,
        end_seconds=arrays["end_timestamps_ms"] / 1000,
        fps=float(arrays["fps"]),
        padded_frames=arrays.get("padded_frames"),
        record=record.as_json(),
    )
