"""How far the runs in an output folder are, told from the outputs themselves, the claims and the recorded outcomes."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import OutputError, VideoFeaturesError, kind_of, printable, reason_of
from ..locations import location_of
from ..outputs.base import Sink
from ..outputs.choose import sink_of
from ..outputs.files import FileSink
from ..outputs.layout import Extras
from ..outputs.provenance import Provenance, SourceRecord, WeightsRecord
from ..tasks.videos import Task, Video, tasks
from ..weights import Weights
from ..weights.obtain import verify
from .claims import claim_path
from .ledger.base import End, Ledger, RunRecord
from .ledger.choose import ledger_of


@dataclass
class Status:
    """How far one feature is, of the videos of the latest run with its settings.

    feature, model: of `model_name`, where the feature has one
    settings: of the feature, but for the weights, and those of the run that say where its outputs are
    began: when that run did, or was last begun anew
    videos: how many it is for
    done: how many are there, whole, made with its settings and from the video as it is now
    otherwise: {reason: how many are there that were made otherwise, and are refused unless they are overwritten}
    failed: {reason: how many failed last time, or would}
    under_way: the videos that processes are at, with host and process
    left: how many are still to be done
    notes: what else there is to know
    """

    feature: str
    model: str
    settings: dict[str, Any]
    began: datetime | None
    videos: int = 0
    done: int = 0
    otherwise: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    under_way: list[str] = field(default_factory=list)
    left: int = 0
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {**vars(self), "began": None if self.began is None else self.began.isoformat()}


def status(output_path: str | PathLike[str]) -> list[Status]:
    """How far the runs in an output folder are: of each feature and model that which began last, and before it those
    with other settings of which there are outputs.

    Nothing is decoded, but every output is loaded, and the weights' files are read: a thousand videos take about a
    second. Raises OutputError where no run has written.
    """
    ledger = ledger_of(location_of(output_path))
    found: list[Status] = []
    for run, recorded in _groups(ledger):
        settings = {**recorded.settings, **run.kept_settings()}
        state = Status(recorded.feature, recorded.model_name, settings, run.began)
        now, state.notes = _weights_as_they_are(recorded)
        sink = sink_of(run.settings, lists=True)
        for task in tasks(run.videos or [], run.settings):
            state.videos += 1
            _count(state, task, run, now, sink, ledger.last(state.feature, state.model, task.video))
        is_superseded = any((one.feature, one.model) == (state.feature, state.model) for one in found)
        if not is_superseded or state.done:
            found.append(state)
    return found


def _groups(ledger: Ledger) -> Iterator[tuple[RunRecord, Provenance]]:
    """The runs of each feature by their settings, the latest first, with the videos of all of them: the listed ones,
    and of a list that streams those that have ended."""
    found: dict[str, tuple[RunRecord, Provenance, dict[Any, Video]]] = {}
    for run in ledger.runs():
        for feature in run.features:
            digests = {key: one.sha256 for key, one in feature.weights.items()}
            group = json.dumps([feature.feature, feature.settings, digests, run.kept_settings()])
            _, _, videos = found.setdefault(group, (run, feature, {}))
            for video in ledger.ended(feature) if run.videos is None else run.videos:
                videos.setdefault(video.key(), video)
    for latest, feature, videos in found.values():
        yield replace(latest, videos=list(videos.values())), feature


def _weights_as_they_are(recorded: Provenance) -> tuple[Provenance, list[str]]:
    """The provenance that a rerun would have, and what changed in the files of the weights."""
    weights: dict[str, WeightsRecord] = {}
    notes: list[str] = []
    for key, one in recorded.weights.items():
        path, sha256 = Path(one.file), one.sha256
        try:
            sha256 = verify(path, Weights(path=path))
        except OSError:
            notes.append(f"weights of {key}: {path} is not here, so whether it has changed is not known")
        except VideoFeaturesError as error:
            notes.append(f"weights of {key}: {error}")
        if sha256 != one.sha256:
            notes.append(f"weights of {key}: {path} has changed: its SHA-256 was {one.sha256} and is {sha256}")
        weights[key] = replace(one, sha256=sha256)
    return replace(recorded, weights=weights), notes


def _count(state: Status, task: Task, run: RunRecord, now: Provenance, sink: Sink, last: End | None) -> None:
    if task.identity is None:
        assert task.problem is not None
        state.failed[kind_of(reason_of(task.problem, task.location), task.location)] += 1
        return
    source = SourceRecord.of(task.identity, task.video.segment, run.settings.source_fps)
    try:
        if sink.existing(task.name, now, source, Extras()) is not None:
            state.done += 1
            return
    except OutputError as error:
        state.otherwise[kind_of(reason_of(error, task.location), task.location)] += 1
        return
    claimed_by = ""
    if isinstance(sink, FileSink):
        claimed_by = _claimed_by(claim_path(sink.root, sink.record_path(task.name, now)))
    if claimed_by:
        state.under_way.append(f"{printable(task.location)} ({claimed_by})")
    elif last is not None and last.status == "failed":
        state.failed[kind_of(last.reason, last.location)] += 1
    else:
        state.left += 1


def _claimed_by(claim: Path) -> str:
    """Who holds a claim, in words; empty where nobody who is alive does."""
    try:
        said = dict(line.split("=", 1) for line in claim.read_text().splitlines() if "=" in line)
        age = time.time() - claim.stat().st_mtime
        if age > float(said["duration"]) or _is_gone(said["host"], int(said["pid"])):
            return ""
        return f"{said['host']}, process {said['pid']}, last sign of life {max(0.0, age):.0f} s ago"
    except (OSError, ValueError, KeyError):
        return ""


def _is_gone(host: str, process: int) -> bool:
    """Whether a process of this host is there no more; where the system says it."""
    if sys.platform == "win32" or host != socket.gethostname():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
