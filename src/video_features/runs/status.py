"""Report the progress of the runs in an output folder, from the outputs, the claims and the recorded outcomes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import LongNameError, OutputError, SettingsError, VideoFeaturesError, kind_of, printable, reason_of
from ..locations import EMPTY_PATH, location_of
from ..outputs.base import Sink
from ..outputs.choose import choose_sink
from ..outputs.files import FileSink
from ..outputs.layout import Extras
from ..outputs.provenance import Provenance, SourceRecord, WeightsRecord
from ..tasks.videos import Task, Video, tasks
from ..weights import Weights
from ..weights.obtain import verify
from .claims import holder_of
from .ledger.base import Ledger, RecordedOutcome, RunRecord
from .ledger.choose import choose_ledger


@dataclass
class Status:
    """The progress of one feature with the same settings, over the videos of all runs with these settings.

    feature: the name of the feature
    model: its `model_name`; empty if the feature has no choice of models
    settings: the settings of the feature without the weights, and the settings of the run that determine where its
        outputs are
    began: when the latest of these runs last started
    videos: the number of videos
    done: how many outputs are complete, and were made with these settings from the video as it is now
    conflicting: {reason: how many outputs were made with other settings or weights, or from another video; a rerun
        refuses them unless `overwrite` is set}
    failed: {reason: how many videos failed last time, or would fail}
    under_way: the videos that processes are working on, with host and process
    left: how many videos are still to be done
    notes: other findings, such as weights that have changed
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
        """This status as JSON values. `otherwise` is the former name of `conflicting`."""
        began = None if self.began is None else self.began.isoformat()
        return {**vars(self), "began": began, "otherwise": self.conflicting}

    @property
    def otherwise(self) -> Counter[str]:
        """The former name of `conflicting`."""
        return self.conflicting


def status(output_path: str | PathLike[str]) -> list[Status]:
    """The progress of the runs in an output folder, latest run first.

    Has the latest settings of each feature and model, and earlier settings if they still have outputs. Nothing is
    decoded, but every output is loaded and the files of the weights are read: a thousand videos take about a second.
    Raises SettingsError for an empty path, OutputError if no run has written to the folder.
    """
    if not str(output_path).strip():
        raise SettingsError(f"output_path: {EMPTY_PATH}")
    ledger = choose_ledger(location_of(output_path))
    found: list[Status] = []
    for run, recorded in _groups(ledger):
        settings = {**recorded.settings, **run.recorded_settings()}
        state = Status(recorded.feature, recorded.model_name, settings, run.began)
        current, state.notes = _with_current_weights(recorded)
        sink = choose_sink(run.settings, lists=True)
        for task in tasks(run.videos or [], run.settings):
            state.videos += 1
            _count(state, task, run, current, sink, ledger.last(state.feature, state.model, task.video))
        is_superseded = any((later.feature, later.model) == (state.feature, state.model) for later in found)
        if not is_superseded or state.done:
            found.append(state)
    return found


def _groups(ledger: Ledger) -> Iterator[tuple[RunRecord, Provenance]]:
    """Group the runs of each feature by settings. Yields the latest run of each group, with the videos of all its runs.

    The videos of a run are the listed videos, or for a streamed list the videos with a recorded outcome.
    """
    found: dict[str, tuple[RunRecord, Provenance, dict[Any, Video]]] = {}
    for run in ledger.runs():
        for feature in run.features:
            digests = {key: weights.sha256 for key, weights in feature.weights.items()}
            group = json.dumps([feature.feature, feature.settings, digests, run.recorded_settings()])
            _, _, videos = found.setdefault(group, (run, feature, {}))
            for video in ledger.ended(feature) if run.videos is None else run.videos:
                videos.setdefault(video.key(), video)
    for latest, feature, videos in found.values():
        yield replace(latest, videos=list(videos.values())), feature


def _with_current_weights(recorded: Provenance) -> tuple[Provenance, list[str]]:
    """The provenance that a rerun would have, and notes on files of weights that have changed."""
    weights: dict[str, WeightsRecord] = {}
    notes: list[str] = []
    for key, record in recorded.weights.items():
        path, sha256 = Path(record.file), record.sha256
        try:
            sha256 = verify(path, Weights(path=path))
        except OSError:
            notes.append(f"weights of {key}: {path} cannot be read, so it may have changed")
        except VideoFeaturesError as error:
            notes.append(f"weights of {key}: {error}")
        if sha256 != record.sha256:
            notes.append(f"weights of {key}: {path} has changed: its SHA-256 was {record.sha256} and is now {sha256}")
        weights[key] = replace(record, sha256=sha256)
    return replace(recorded, weights=weights), notes


def _count(
    state: Status, task: Task, run: RunRecord, current: Provenance, sink: Sink, last: RecordedOutcome | None
) -> None:
    """Add a task to the counts of `state`. last: its latest recorded outcome"""
    if task.identity is None:
        assert task.problem is not None
        state.failed[kind_of(reason_of(task.problem, task.location), task.location)] += 1
        return
    source = SourceRecord.of(task.identity, task.video.segment, run.settings.source_fps)
    try:
        if sink.existing(task.name, current, source, Extras()) is not None:
            state.done += 1
            return
    except LongNameError as error:
        state.failed[kind_of(reason_of(error, task.location), task.location)] += 1
        return
    except OutputError as error:
        state.conflicting[kind_of(reason_of(error, task.location), task.location)] += 1
        return
    holder = None
    if isinstance(sink, FileSink):
        holder = holder_of(sink.root, sink.record_path(task.name, current))
    if holder is not None:
        state.under_way.append(f"{printable(task.location)} ({holder})")
    elif last is not None and last.status == "failed":
        state.failed[kind_of(last.reason, last.location)] += 1
    else:
        state.left += 1
