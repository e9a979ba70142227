"""What a run leaves beside its outputs: how every video ended, and what the run was for.

outcomes.jsonl               a line for every end of a video, appended by all processes
.video_features/runs/*.json  what each run was to do
.video_features/claims/      which process is at which video, see `claims`
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
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


def as_json(outcome: Outcome, video: Video) -> dict[str, Any]:
    """How a video ended, as a line of `outcomes.jsonl` has it."""
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        **outcome.as_json(),
        **dict(zip(KEY, video.key(), strict=True)),
        "host": socket.gethostname(),
        "process": os.getpid(),
    }


class Ledger:
    """The records of the runs in one output folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.path = root / "outcomes.jsonl"
        self._runs = root / ".video_features" / "runs"

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

    def outcomes(self) -> Iterator[dict[str, Any]]:
        """Every line, oldest first; those that are not whole are left out."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    found = json.loads(line)
                except ValueError:
                    continue
                if isinstance(found, dict) and {"feature", "path", "status"} <= found.keys():
                    yield found

    def last(self) -> dict[tuple[str, Key], dict[str, Any]]:
        """How each video ended last, by feature and `Video.key`."""
        return {(line["feature"], key_of(line)): line for line in self.outcomes()}

    def failed(self, features: Iterable[str]) -> list[Video]:
        """The videos of which one of these features failed last."""
        wanted = set(features)
        lines = [line for (feature, _), line in self.last().items() if feature in wanted and line["status"] == "failed"]
        return list({key_of(line): Video(*key_of(line)) for line in lines}.values())

    def begin(self, run: RunRecord) -> None:
        """Note what a run is for. Raises WriteError."""
        text = json.dumps(run.as_json())
        path = self._runs / f"{digest(text)}.json"
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise WriteError(f"{path}: cannot be written ({error.strerror or error})") from error

    def runs(self) -> list[RunRecord]:
        """Every run that began here, the latest first. Raises OutputError where there was none."""
        paths = sorted(self._runs.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        if not paths:
            raise OutputError(f"{self._root}: no run of video-features has written here")
        return [RunRecord.read(path) for path in paths]


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

    def as_json(self) -> dict[str, Any]:
        settings = {name: str(value) for name in KEPT if (value := getattr(self.settings, name)) is not None}
        videos = [list(video.key()) for video in self.videos if not isinstance(video.source, np.ndarray)]
        return {"made_by": self.made_by, "settings": settings, "videos": videos}

    @classmethod
    def read(cls, path: Path) -> RunRecord:
        """From its file, in the output folder's `.video_features/runs`."""
        found = json.loads(path.read_text(encoding="utf-8"))
        settings = {**found["settings"], "output_path": path.parents[2]}
        began = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
        return cls(
            found["made_by"],
            from_mapping(RunSettings, settings, of="the run"),
            [Video(*key) for key in found["videos"]],
            began,
        )


def key_of(line: Mapping[str, Any]) -> Key:
    """`Video.key` of the video that a line tells of."""
    return tuple(line.get(name) for name in KEY)
