"""What a run leaves beside its outputs: how every video ended, and what the run was for.

outcomes.jsonl               a line for every end of a video, appended by all processes; in a store, see `remote_ledger`
.video_features/runs/*.json  what each run was to do
.video_features/claims/      which process is at which video, see `claims`
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from abc import ABC, abstractmethod
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
from .locations import Location
from .run_settings import RunSettings
from .settings import from_mapping

KEPT = ("on_extraction", "layout", "input_root", "source_fps")
KEY = ("path", "start_seconds", "end_seconds", "id")  # what `Video.key` has, by name
PROBE_BYTES = 1 << 20  # where so much cannot be written, nothing can
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


class Ledger(ABC):
    """The records of the runs with one output path."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, str, Key], End] = {}
        self.has_read = False  # what there was when it began

    @abstractmethod
    def is_there(self) -> bool:
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

    def failed(self, made_by: Iterable[Mapping[str, Any]]) -> list[Video]:
        """The videos of which one of these features failed last."""
        return [video for video, end in self._videos(made_by) if end.status == "failed"]

    def ended(self, made_by: Mapping[str, Any]) -> list[Video]:
        """The videos of which a feature ended, in whatever way."""
        return [video for video, _ in self._videos([made_by])]

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

    def _videos(self, made_by: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Video, End]]:
        """The videos of these features, each once, and how they ended last; not arrays, which are nowhere."""
        self.read()
        wanted = {(one["feature"], model_of(one)) for one in made_by}
        found: dict[Key, End] = {}
        for (feature, model, key), end in self._ends.items():
            if (feature, model) in wanted and key[0] is not None:
                earlier = found.setdefault(key, end)
                if end.status == "failed" != earlier.status:
                    found[key] = end
        return ((Video(*key), end) for key, end in found.items())


class FileLedger(Ledger):
    """The records in an output folder."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._path = root / "outcomes.jsonl"
        self._runs = root / ".video_features" / "runs"
        self._read_until = 0

    @cached_property
    def _lock(self) -> FileLock:
        self._runs.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._runs.parent / "outcomes.lock")

    def is_there(self) -> bool:
        return self._path.exists()

    def append(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        try:
            with self._lock, self._path.open("ab+") as file:
                if file.tell() and file.seek(-1, os.SEEK_END) and file.read(1) != b"\n":
                    text = b"\n" + text  # a process was killed, or a disk full, in the midst of a line
                file.write(text)
        except OSError as error:
            raise WriteError(f"{self._path}: cannot be written ({error.strerror or error})") from error

    def close(self) -> None:
        pass  # nothing waits

    def begin(self, run: RunRecord) -> None:
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
        paths = sorted(self._runs.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
        found = [(path, datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)) for path in paths]
        return some_of((RunRecord.read(_content(path), self._root, began) for path, began in found), self._root)

    def check_can_write(self) -> None:
        probe = self._root / ".video_features" / f"{uuid.uuid4().hex}.tmp"
        try:
            try:
                probe.write_bytes(bytes(PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(nothing_more(self._root, str(error.strerror))) from error

    def _added(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._read_until)
                added = file.read()
        except FileNotFoundError:
            added = b""
        whole = added[: added.rfind(b"\n") + 1]
        self._read_until += len(whole)
        return whole


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def ledger_of(root: Location) -> Ledger:
    """The records of the runs with an output path."""
    if isinstance(root, Path):
        return FileLedger(root)
    from .remote_ledger import RemoteLedger

    return RemoteLedger(root)


def some_of(runs: Iterable[RunRecord | None], root: Location) -> list[RunRecord]:
    """Those that could be read. Raises OutputError where there are none."""
    found = [run for run in runs if run is not None]
    if not found:
        raise OutputError(f"{root}: no run of video-features has written here")
    return found


def nothing_more(root: Location, why: str) -> str:
    """The sentence for an output path that takes nothing any more."""
    return (
        f"{root}: nothing can be written there any more ({why}), so the run stops; what is done stays done, and the "
        "same command goes on with the rest"
    )


@dataclass(frozen=True)
class RunRecord:
    """What a run is for.

    made_by: feature, settings and weights, of each feature, as their records have them
    settings: the run's, of which those are kept that decide where its outputs are and what they are
    videos: the list; arrays, which are nowhere, are not kept; None of a list that streams, which may be too long
    began: when
    """

    made_by: list[dict[str, Any]]
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
        return {"made_by": self.made_by, "settings": self.kept_settings(), "videos": videos}

    @classmethod
    def read(cls, text: bytes, root: Location, began: datetime) -> RunRecord | None:
        """From its file below `root`; None where that is not whole, as after a power failure."""
        try:
            found = json.loads(text)
            settings = from_mapping(RunSettings, {**found["settings"], "output_path": root}, of="the run")
            videos = found["videos"]
            return cls(found["made_by"], settings, None if videos is None else [Video(*key) for key in videos], began)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
