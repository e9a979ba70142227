"""What a run leaves beside its outputs: how every video ended, and what the run was for.

outcomes.jsonl               a line for every end of a video, appended by all processes
.video_features/runs/*.json  what each run was to do
.video_features/claims/      which process is at which video, see `claims`
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from .errors import OutputError, WriteError
from .features import Outcome
from .layout import digest
from .lists import Video
from .run_settings import RunSettings
from .settings import from_mapping

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


def model_of(made_by: Mapping[str, Any]) -> str:
    """The `model_name` of a record's settings; empty where the feature has none."""
    return str(made_by["settings"].get("model_name", ""))


@dataclass(frozen=True)
class End:
    """How a video ended: what is kept of a line. is_new: whether it did after this process began to look"""

    status: str
    reason: str
    error: str
    location: str
    is_new: bool


class Ledger:
    """The records of the runs in one output folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.path = root / "outcomes.jsonl"
        self._runs = root / ".video_features" / "runs"
        self._ends: dict[tuple[str, str, Key], End] = {}
        self._read_until: int | None = None

    @cached_property
    def _lock(self) -> FileLock:
        self._runs.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._runs.parent / "outcomes.lock")

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add these, whatever other processes on any host add meanwhile. Raises WriteError."""
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        try:
            with self._lock, self.path.open("ab+") as file:
                if file.tell() and file.seek(-1, os.SEEK_END) and file.read(1) != b"\n":
                    text = b"\n" + text  # a process was killed, or a disk full, in the midst of a line
                file.write(text)
        except OSError as error:
            raise WriteError(f"{self.path}: cannot be written ({error.strerror or error})") from error

    def last(self, feature: str, model: str, video: Video) -> End | None:
        """How a video ended last, by what all processes have recorded so far."""
        self.read()
        return self._ends.get((feature, model, video.key()))

    def failed(self, made_by: Iterable[Mapping[str, Any]]) -> list[Video]:
        """The videos of which one of these features failed last."""
        self.read()
        wanted = {(one["feature"], model_of(one)) for one in made_by}
        keys = {
            key: None
            for (feature, model, key), end in self._ends.items()
            if (feature, model) in wanted and end.status == "failed" and key[0] is not None
        }
        return [Video(*key) for key in keys]

    def read(self) -> None:
        """Take in what was added; the first time, all there is. Lines that are not whole are left out."""
        is_new = self._read_until is not None
        try:
            with self.path.open("rb") as file:
                file.seek(self._read_until or 0)
                added = file.read()
        except FileNotFoundError:
            added = b""
        whole = added[: added.rfind(b"\n") + 1]
        self._read_until = (self._read_until or 0) + len(whole)
        for text in whole.splitlines():
            try:
                line = json.loads(text)
                key = tuple(line[name] for name in KEY)
                end = End(line["status"], line["reason"], line["error"], line["location"], is_new)
                self._ends[line["feature"], line["model_name"], key] = end
            except (ValueError, KeyError, TypeError):
                continue

    def begin(self, run: RunRecord) -> None:
        """Note what a run is for. Raises WriteError."""
        text = json.dumps(run.as_json())
        path = self._runs / f"{digest(text)}.json"
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise WriteError(f"{path}: cannot be written ({error.strerror or error})") from error

    def runs(self) -> list[RunRecord]:
        """Every run that began here, the latest first. Raises OutputError where there was none."""
        paths = sorted(self._runs.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        runs = [run for path in paths if (run := RunRecord.read(path)) is not None]
        if not runs:
            raise OutputError(f"{self._root}: no run of video-features has written here")
        return runs


@dataclass(frozen=True)
class RunRecord:
    """What a run is for.

    made_by: feature, settings and weights, of each feature, as their records have them
    settings: the run's, of which those are kept that decide where its outputs are and what they are
    videos: the list; arrays, which are nowhere, are not kept
    began: when
    """

    made_by: list[dict[str, Any]]
    settings: RunSettings
    videos: list[Video]
    began: datetime | None = None

    def kept_settings(self) -> dict[str, str]:
        """Those of the run that say where its outputs are, and what they are."""
        settings = {name: str(value) for name in KEPT if (value := getattr(self.settings, name)) is not None}
        if self.settings.input_root is not None:
            settings["input_root"] = str(self.settings.input_root.absolute())
        return settings

    def as_json(self) -> dict[str, Any]:
        videos = [list(video.key()) for video in self.videos if not isinstance(video.source, np.ndarray)]
        return {"made_by": self.made_by, "settings": self.kept_settings(), "videos": videos}

    @classmethod
    def read(cls, path: Path) -> RunRecord | None:
        """From its file, in the output folder's `.video_features/runs`; None where that is not whole, as after a power
        failure."""
        try:
            return cls._from_json(json.loads(path.read_text(encoding="utf-8")), path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def _from_json(cls, found: dict[str, Any], path: Path) -> RunRecord:
        settings = {**found["settings"], "output_path": path.parents[2]}
        began = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
        return cls(
            found["made_by"],
            from_mapping(RunSettings, settings, of="the run"),
            [Video(*key) for key in found["videos"]],
            began,
        )
