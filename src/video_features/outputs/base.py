"""What every output offers, and the one that writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..features import Features, Prediction
from ..locations import Location
from .layout import Extras
from .provenance import Provenance, SourceRecord
from .rows import Array, Staging


class Sink(Protocol):
    """Takes the features of one video after another."""

    @property
    def root(self) -> Location | None:
        """Where their files are; None where there are none."""

    def existing(self, name: str, provenance: Provenance, source: SourceRecord, extras: Extras) -> Saved | None:
        """What this run would write, if it is there already and whole; else None.

        Raises OutputError if what is there was made with other settings, or from another video.
        """

    def record_path(self, name: str, provenance: Provenance) -> Path | None:
        """The file that vouches for the others, and is written last; None where there are no files."""

    def stage(self, name: str, provenance: Provenance, extras: Extras) -> Staging:
        """Where the features of one video gather until they are written."""

    def write(self, name: str, features: Features, staging: Staging) -> Saved:
        """Write the features of one video, gathered in `staging`, and return them as saved. Raises OutputError."""

    def stored(self, name: str, features: Features) -> Features:
        """The same features, that were written here or found: to be read from their files once they are asked for."""


@dataclass(frozen=True)
class Saved:
    """Features and their files, if there are any."""

    features: Features
    files: tuple[Location, ...]


class NoSink:
    """Writes nothing: the features go to the caller alone."""

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
    """Features that are read from their files when one of their arrays is asked for, and then kept.

    load: reads them. Raises OutputError where the files are gone or damaged by then
    record, predictions: as `Features` has them
    """

    def __init__(
        self, load: Callable[[], Features], record: dict[str, Any], predictions: dict[str, list[Prediction]] | None
    ) -> None:
        vars(self).update(load=load, record=record, predictions=predictions)

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
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tuple(shape) for key, shape in self.record["shapes"].items()}

    def __len__(self) -> int:
        return next(iter(self.shapes.values()))[0]

    def __repr__(self) -> str:
        return f"StoredFeatures({self.shapes})"


def as_features(values: Mapping[str, Array], arrays: Mapping[str, Array], record: dict[str, Any]) -> Features:
    """Features from their files' arrays and record.

    arrays: those that are no values, as `Features.arrays` names them
    """
    return Features(
        values=values,
        start_seconds=arrays["timestamps_ms"] / 1000,
        end_seconds=arrays["end_timestamps_ms"] / 1000,
        fps=float(arrays["fps"]),
        padded_frames=arrays.get("padded_frames"),
        record=record,
    )
