"""How far the runs in an output folder are, told from the outputs themselves, the claims and the recorded outcomes."""

from __future__ import annotations

import json
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
from ..outputs.choose import choose_sink
from ..outputs.files import FileSink
from ..outputs.layout import Extras
from ..outputs.provenance import Provenance, SourceRecord, WeightsRecord
from ..tasks.videos import Task, Video, tasks
from ..weights import Weights
from ..weights.obtain import verify
from .claims import holder_of
from .ledger.base import End, Ledger, RunRecord
from .ledger.choose import choose_ledger


@dataclass
class Status:
    """How far one feature is, of the videos of the latest run with its settings.

    feature, model: of `model_name`, where the feature has one
    settings: of the feature, but for the weights, and those of the run that say where its outputs are
    began: when that run did, or was last begun anew
    videos: how many it is for
    done: how many are there, whole, made with its settings and from the video as it is now
    conflicting: {reason: how many are there that were made with other settings, other weights or from another video, and
        are refused unless they are overwritten}
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
    conflicting: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    under_way: list[str] = field(default_factory=list)
    left: int = 0
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values. `otherwise` is the former name of `conflicting`."""
        began = None if self.began is None else self.began.isoformat()
        return {**vars(self), "began": began, "otherwise": self.conflicting}

    @property
    def otherwise(self) -> Counter[str]:
        """The former name of `conflicting`."""
        return self.conflicting


def status(output_path: str | PathLike[str]) -> list[Status]:
    """How far the runs in an output folder are: of each feature and model that which began last, and before it those
    with other settings of which there are outputs.

    Nothing is decoded, but every output is loaded, and the weights' files are read: a thousand videos take about a
    second. Raises OutputError where no run has written.
    """
    ledger = choose_ledger(location_of(output_path))
    found: list[Status] = []
    for run, recorded in _groups(ledger):
        settings = {**recorded.settings, **run.kept_settings()}
        state = Status(recorded.feature, recorded.model_name, settings, run.began)
        now, state.notes = _weights_as_they_are(recorded)
        sink = choose_sink(run.settings, lists=True)
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
        state.conflicting[kind_of(reason_of(error, task.location), task.location)] += 1
        return
    holder = None
    if isinstance(sink, FileSink):
        holder = holder_of(sink.root, sink.record_path(task.name, now))
    if holder is not None:
        state.under_way.append(f"{printable(task.location)} ({holder})")
    elif last is not None and last.status == "failed":
        state.failed[kind_of(last.reason, last.location)] += 1
    else:
        state.left += 1
