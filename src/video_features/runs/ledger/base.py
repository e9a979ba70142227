"""The interface of a ledger and its records: a `RunRecord` per run, and a line per outcome."""

from __future__ import annotations

import json
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import OutputError, redacted
from ...features import Outcome
from ...locations import Location, recordable, shown
from ...outputs.formats import check_format
from ...outputs.provenance import Provenance
from ...settings import RunSettings
from ...settings.config import UsedSettings
from ...settings.parse import from_mapping
from ...tasks.videos import Video

RECORDED_SETTINGS = ("on_extraction", "layout", "input_root", "source_fps")
KEY_FIELDS = ("path", "start_seconds", "end_seconds", "id")  # names of the items of `Video.recorded_key`
Key = tuple[Any, ...]


def as_json(outcome: Outcome, video: Video, model: str) -> dict[str, Any]:
    """An outcome as a line of `outcomes.jsonl`."""
    key = dict(zip(KEY_FIELDS, video.recorded_key(), strict=True))
    if isinstance(video.source, np.ndarray):
        key["path"] = None  # another run cannot find an array
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        **outcome.as_json(),
        "model_name": model,
        **key,
        "host": socket.gethostname(),
        "process": os.getpid(),
    }


@dataclass(frozen=True)
class RecordedOutcome:
    """The fields of a recorded outcome that are kept in memory. is_new: recorded after the ledger was first read"""

    status: str
    reason: str
    error: str
    location: str
    is_new: bool


class Ledger(ABC):
    """The records of all runs with the same output path."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str, Key], RecordedOutcome] = {}  # {(feature, model, key of the video): …}
        self.has_read = False  # whether the outcomes of earlier runs have been read

    @abstractmethod
    def exists(self) -> bool:
        """Whether any outcome has been recorded."""

    @abstractmethod
    def append(self, lines: list[dict[str, Any]]) -> None:
        """Add lines; safe while other processes on any host add lines, too. Raises WriteError."""

    @abstractmethod
    def close(self) -> None:
        """Write buffered lines. Raises WriteError."""

    @abstractmethod
    def begin(self, run: RunRecord) -> None:
        """Record that a run begins. Raises WriteError."""

    @abstractmethod
    def withdraw(self) -> None:
        """Remove what `begin` recorded of a run that ended before its first outcome, unless others may need it."""

    @abstractmethod
    def keep_settings(self, used: UsedSettings) -> None:
        """Write `configs/NAME.yaml`. The same settings give the same file, whoever writes it. Raises WriteError."""

    @abstractmethod
    def runs(self) -> list[RunRecord]:
        """All recorded runs, latest first. Raises OutputError if there are none."""

    @abstractmethod
    def check_can_write(self) -> None:
        """Raise WriteError if nothing can be written any more."""

    @abstractmethod
    def _added(self) -> bytes:
        """The complete lines that were added since the previous call."""

    def last(self, feature: str, model: str, video: Video) -> RecordedOutcome | None:
        """The latest outcome of a video that any process has recorded; None if there is none."""
        self.read()
        return self._latest.get((feature, model, video.recorded_key()))

    def failed(self, features: Iterable[Provenance]) -> list[Video]:
        """The videos whose latest outcome is a failure for any of these features."""
        return [video for video, outcome in self._videos(features) if outcome.status == "failed"]

    def ended(self, feature: Provenance) -> list[Video]:
        """The videos with a recorded outcome for a feature."""
        return [video for video, _ in self._videos([feature])]

    def read(self) -> None:
        """Read the lines that were added since the previous call, or all lines the first time. Skips damaged lines."""
        added = self._added()
        is_new, self.has_read = self.has_read, True
        for text in added.splitlines():
            try:
                line = json.loads(text)
                key = _read_key([line[name] for name in KEY_FIELDS])
                location, reason = shown(line["location"]), redacted(line["reason"])
                outcome = RecordedOutcome(line["status"], reason, line["error"], location, is_new)
                self._latest[line["feature"], line["model_name"], key] = outcome
            except (ValueError, KeyError, TypeError):
                continue

    def _videos(self, features: Iterable[Provenance]) -> Iterator[tuple[Video, RecordedOutcome]]:
        """Each video of these features once, with its latest outcome, or a failure if any. Leaves out arrays."""
        self.read()
        wanted = {(provenance.feature, provenance.model_name) for provenance in features}
        found: dict[Key, RecordedOutcome] = {}
        for (feature, model, key), outcome in self._latest.items():
            if (feature, model) in wanted and key[0] is not None:
                earlier = found.setdefault(key, outcome)
                if outcome.status == "failed" != earlier.status:
                    found[key] = outcome
        return ((Video(*key), outcome) for key, outcome in found.items())


def _read_key(found: Iterable[Any]) -> Key:
    """A recorded key of a video. Earlier versions recorded whole URLs."""
    path, *others = found
    return path if path is None else recordable(path), *others


def readable_runs(runs: Iterable[RunRecord | None], root: Location) -> list[RunRecord]:
    """The runs whose records could be read. Raises OutputError if there are none."""
    found = [run for run in runs if run is not None]
    if not found:
        raise OutputError(f"{shown(root)}: no run of video-features has written here")
    return found


def unwritable(root: Location, why: str) -> str:
    """The message for an output path that can no longer be written to."""
    return (
        f"{shown(root)}: nothing can be written there any more ({why}), so the run stops; finished outputs are kept, "
        "and the same command continues with the rest"
    )


@dataclass(frozen=True)
class RunRecord:
    """The features, settings and videos of a run.

    features: the provenance of each feature
    settings: the settings of the run, of which only RECORDED_SETTINGS are recorded
    videos: the list, of which arrays are not recorded, as they have no path; None if the list is streamed and may be
        too long to record
    began: when the run last started; None for a run that has not been read from a ledger
    """

    features: list[Provenance]
    settings: RunSettings
    videos: list[Video] | None
    began: datetime | None = None

    def recorded_settings(self) -> dict[str, str]:
        """The settings of the run that determine where its outputs are and what they contain."""
        settings = {
            name: shown(str(value)) for name in RECORDED_SETTINGS if (value := getattr(self.settings, name)) is not None
        }
        if isinstance(self.settings.input_root, Path):
            settings["input_root"] = str(self.settings.input_root.absolute())
        return settings

    def as_json(self) -> dict[str, Any]:
        videos = None
        if self.videos is not None:
            videos = [list(video.recorded_key()) for video in self.videos if not isinstance(video.source, np.ndarray)]
        return {
            "made_by": [feature.as_json() for feature in self.features],
            "settings": self.recorded_settings(),
            "videos": videos,
        }

    @classmethod
    def read(cls, text: bytes, root: Location, began: datetime) -> RunRecord | None:
        """Parse the record of a run below `root`. Returns None if it is damaged, as after a power failure."""
        try:
            found = json.loads(text)
            settings = from_mapping(RunSettings, {**found["settings"], "output_path": root}, of="the run")
            check_format(settings.on_extraction)
            videos = found["videos"]
            features = [Provenance.from_json(record) for record in found["made_by"]]
            return cls(
                features, settings, None if videos is None else [Video(*_read_key(key)) for key in videos], began
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
