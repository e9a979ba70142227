"""What every ledger offers, and what is recorded: how a video ended, and what a run was for."""

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

from ...errors import OutputError
from ...features import Outcome
from ...locations import Location
from ...outputs.provenance import Provenance
from ...settings import RunSettings
from ...settings.parse import from_mapping
from ...tasks.videos import Video

KEPT = ("on_extraction", "layout", "input_root", "source_fps")
KEY = ("path", "start_seconds", "end_seconds", "id")  # what `Video.key` has, by name
Key = tuple[Any, ...]


def as_json(outcome: Outcome, video: Video, model: str) -> dict[str, Any]:
    """How a video ended, as a line of `outcomes.jsonl` has it."""
    of_video = dict(zip(KEY, video.key(), strict=True))
    if isinstance(video.source, np.ndarray):
        of_video["path"] = None  # it is nowhere
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        **outcome.as_json(),
        "model_name": model,
        **of_video,
        "host": socket.gethostname(),
        "process": os.getpid(),
    }


@dataclass(frozen=True)
class End:
    """How a video ended: what is kept of a line. is_new: whether it did after this process began to look"""

    status: str
    reason: str
    error: str
    location: str
    is_new: bool


class Ledger(ABC):
    """The records of the runs with one output path."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, str, Key], End] = {}
        self.has_read = False  # what there was when it began

    @abstractmethod
    def exists(self) -> bool:
        """Whether a video has ended here."""

    @abstractmethod
    def append(self, lines: list[dict[str, Any]]) -> None:
        """Add these lines, whatever other processes on any host add meanwhile. Raises WriteError."""

    @abstractmethod
    def close(self) -> None:
        """Write what waits. Raises WriteError."""

    @abstractmethod
    def begin(self, run: RunRecord) -> None:
        """Note what a run is for. Raises WriteError."""

    @abstractmethod
    def runs(self) -> list[RunRecord]:
        """Every run that began here, the latest first. Raises OutputError where there was none."""

    @abstractmethod
    def check_can_write(self) -> None:
        """Raise WriteError where nothing can be written any more."""

    @abstractmethod
    def _added(self) -> bytes:
        """The whole lines that were added since this was asked last."""

    def last(self, feature: str, model: str, video: Video) -> End | None:
        """How a video ended last, by what all processes have recorded so far."""
        self.read()
        return self._ends.get((feature, model, video.key()))

    def failed(self, features: Iterable[Provenance]) -> list[Video]:
        """The videos of which one of these features failed last."""
        return [video for video, end in self._videos(features) if end.status == "failed"]

    def ended(self, feature: Provenance) -> list[Video]:
        """The videos of which a feature ended, in whatever way."""
        return [video for video, _ in self._videos([feature])]

    def read(self) -> None:
        """Take in what was added; the first time, all there is. Lines that are not whole are left out."""
        added = self._added()
        is_new, self.has_read = self.has_read, True
        for text in added.splitlines():
            try:
                line = json.loads(text)
                key = tuple(line[name] for name in KEY)
                end = End(line["status"], line["reason"], line["error"], line["location"], is_new)
                self._ends[line["feature"], line["model_name"], key] = end
            except (ValueError, KeyError, TypeError):
                continue

    def _videos(self, features: Iterable[Provenance]) -> Iterator[tuple[Video, End]]:
        """The videos of these features, each once, and how they ended last; not arrays, which are nowhere."""
        self.read()
        wanted = {(one.feature, one.model_name) for one in features}
        found: dict[Key, End] = {}
        for (feature, model, key), end in self._ends.items():
            if (feature, model) in wanted and key[0] is not None:
                earlier = found.setdefault(key, end)
                if end.status == "failed" != earlier.status:
                    found[key] = end
        return ((Video(*key), end) for key, end in found.items())


def readable_runs(runs: Iterable[RunRecord | None], root: Location) -> list[RunRecord]:
    """Those that could be read. Raises OutputError where there are none."""
    found = [run for run in runs if run is not None]
    if not found:
        raise OutputError(f"{root}: no run of video-features has written here")
    return found


def unwritable(root: Location, why: str) -> str:
    """The sentence for an output path that takes nothing any more."""
    return (
        f"{root}: nothing can be written there any more ({why}), so the run stops; what is done stays done, and the "
        "same command goes on with the rest"
    )


@dataclass(frozen=True)
class RunRecord:
    """What a run is for.

    features: the provenance of each
    settings: the run's, of which those are kept that decide where its outputs are and what they are
    videos: the list; arrays, which are nowhere, are not kept; None of a list that streams, which may be too long
    began: when
    """

    features: list[Provenance]
    settings: RunSettings
    videos: list[Video] | None
    began: datetime | None = None

    def kept_settings(self) -> dict[str, str]:
        """Those of the run that say where its outputs are, and what they are."""
        settings = {name: str(value) for name in KEPT if (value := getattr(self.settings, name)) is not None}
        if isinstance(self.settings.input_root, Path):
            settings["input_root"] = str(self.settings.input_root.absolute())
        return settings

    def as_json(self) -> dict[str, Any]:
        videos = None
        if self.videos is not None:
            videos = [list(video.key()) for video in self.videos if not isinstance(video.source, np.ndarray)]
        return {"made_by": [one.as_json() for one in self.features], "settings": self.kept_settings(), "videos": videos}

    @classmethod
    def read(cls, text: bytes, root: Location, began: datetime) -> RunRecord | None:
        """From its file below `root`; None where that is not whole, as after a power failure."""
        try:
            found = json.loads(text)
            settings = from_mapping(RunSettings, {**found["settings"], "output_path": root}, of="the run")
            videos = found["videos"]
            features = [Provenance.from_json(one) for one in found["made_by"]]
            return cls(features, settings, None if videos is None else [Video(*key) for key in videos], began)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
