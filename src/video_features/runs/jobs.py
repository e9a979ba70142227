"""The functions `extract` and `load`: resolve the settings, then extract features from videos."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from ..engines.base import Observer
from ..engines.choose import check_root, choose_executor, devices_of
from ..errors import SettingsError, WriteError, printable
from ..extraction import Extractor
from ..features import Features, Outcome
from ..locations import Location, shown
from ..outputs.choose import choose_sink
from ..registry import resolve_settings, split
from ..runtimes.devices import Device, choose_device
from ..settings import FeatureSettings, RunSettings
from ..settings.config import UsedSettings
from ..settings.parse import network_name
from ..settings.resolve import RUN_SETTINGS
from ..tasks.bookkeeping import Bookkeeping
from ..tasks.videos import Paths, Video, each_video, tasks, videos_of
from ..tasks.work import Work, WorkerConfig
from .claims import Claims
from .ledger.base import RunRecord
from .ledger.choose import choose_ledger
from .schedule import Schedule

log = logging.getLogger(__name__)


def extract(
    paths: Paths,
    features: str | Sequence[str],
    *,
    progress: bool = False,
    **settings: Any,
) -> Iterator[Outcome]:
    """Extract features from videos, lazily. Yields one outcome per video and feature.

    Outcomes come in the order of `paths`, or with several processes in the order in which videos end.

        for outcome in extract(["a.mp4", "b.mp4"], "clip", model_name="ViT-B/32", extraction_fps=1):
            if outcome.status != "failed":
                print(outcome.location, outcome.features.values["clip"].shape)

    paths: one or more videos or audio files (a path, a `file://` or other URL, or a `Video` for a part of a video),
        folders of images, or arrays uint8 (T, H, W, 3) RGB. A URL may be a pattern, `s3://bucket/videos/*.mp4`.
        The outputs of a single array are named `array`; arrays in a list are named by their index, `array_0`,
        `array_1` …; `{name: source}` gives other names.
    features: the name of a feature, or several names in a list or joined by commas; several features share one decoding
        of each video
    progress: whether to show the progress on standard error: one bar for all videos on a terminal or in a notebook,
        otherwise a line every half minute
    settings: settings of the run (`device`, `devices`, `output_path`, `on_extraction`, `show_pred`, `overwrite` …, see
        docs/settings.md) and of the feature (`model_name`, `weights`, `batch_size`, `extraction_fps`, `stack_size` …).
        With several features, `clip={"model_name": "RN50"}` applies to clip only; other settings apply to all features.

    Raises SettingsError or WeightsError at once if the settings or the weights cannot be used. A video that fails does
    not raise: its outcome gives the reason, and extraction continues with the next video.
    """
    began = time.monotonic()
    job = Job(paths, features, settings)
    if not progress:
        return job.outcomes()
    from .progress import Progress

    return job.outcomes(Progress(job.total, began))


def load(feature: str, *, device: str | None = None, show_pred: bool = False, **settings: Any) -> Extractor:
    """Load the network of a feature into memory, for many calls of `extractor.extract(video)`.

    Raises SettingsError for an unknown feature, model or setting, and WeightsError if the weights cannot be obtained.
    """
    if misplaced := settings.keys() & RUN_SETTINGS:
        raise SettingsError(
            f"load does not take {' or '.join(sorted(misplaced))}: give source_fps to the method of the extractor, "
            "load(…).extract(video, source_fps=…), and other settings of a run to the function video_features.extract"
        )
    run, by_feature = resolve_settings([feature], {**settings, "device": device, "show_pred": show_pred})
    config = WorkerConfig(by_feature, run)
    (extractor,) = config.with_weights(config.build())
    _warn_without_classes(run, [extractor])
    if extractor.extras.preview:
        raise SettingsError(
            "load writes no files, so it cannot write a preview: use extract with preview and an output_path"
        )
    return extractor.on(choose_device(run.device))


class Job:
    """One call of `extract`, with its settings resolved. Extraction starts with `outcomes`.

    videos: all videos, each once; an iterator if the list is streamed
    total: the number of videos in this run's shard; None if unknown
    features: the names of the features
    root: the folder or URL of the outputs; None if no files are written
    """

    def __init__(self, paths: Paths, features: str | Sequence[str], settings: Mapping[str, Any]) -> None:
        self._run, by_feature = resolve_settings(split(features), settings)
        self.features = list(by_feature)
        self._config = WorkerConfig(by_feature, self._run)
        log.info("%s", _announcement(self._run, by_feature))
        devices = devices_of(self._run)  # fail at once if a device is not available
        self._check_can_retry()
        extractors = self._config.build()  # before the output folder is made: an interrupt leaves nothing until here
        self._new_folders = NewFolders(self._run.output_path)
        try:
            self._prepare(paths, extractors, devices)
        except BaseException:
            self._new_folders.remove_if_empty()
            raise

    def _prepare(self, paths: Paths, extractors: list[Extractor], devices: list[Device]) -> None:
        """Make the output folder, obtain the weights and list the videos."""
        sink = choose_sink(self._run, lists=True)  # before the weights, which take longer to check
        self.root: Location | None = sink.root
        check_root(self._run, self.root)
        self._bookkeeping = Bookkeeping(self._config.with_weights(extractors), sink, self._run.source_fps)
        _warn_without_classes(self._run, extractors)
        for extractor in self._bookkeeping.extractors:
            for device in devices:
                extractor.placement(device)  # fail at once if the runtime does not support the device
        if self.root is None:
            self._check_needs_no_files()
        self._ledger = None if self.root is None else choose_ledger(self.root)
        self._work = Work(self._bookkeeping, self._run)
        self.total: int | None = None
        self._has_outcomes = False
        if self._run.streams_list and not self._run.retry_failed:
            self.videos: Iterable[Video] = _files_only(each_video(paths, self._run.pattern, self._run.output_path))
            return
        if self._ledger is not None:
            self._ledger.read()  # outcomes that other processes add from now on count as part of this run
        self.videos = videos = self._listed(paths)
        part, parts = self._run.part
        self.total = len(videos[part::parts])
        if not self.total:
            why_empty = f"shard {self._run.shard} is empty" if self._run.shard else "the list is empty"
            log.warning("no videos to extract: %s", "none has failed" if self._run.retry_failed else why_empty)
        first = next(tasks(videos, self._run), None)
        if first is not None and devices and not self._run.in_processes and not self._bookkeeping.is_finished(first):
            self._work.load(devices[0])  # fail at once if the weights do not fit

    def outcomes(self, observer: Observer | None = None) -> Iterator[Outcome]:
        """Yield the outcomes of each video as it ends. Raises WriteError once nothing can be written any more.

        An error before the first outcome, for example because no worker can load the weights, leaves no new folders.
        """
        try:
            yield from self._outcomes(observer or Observer())
        except Exception:
            if self._ledger is not None and not self._has_outcomes:
                self._ledger.withdraw()
                self._new_folders.remove_if_empty()
            raise

    def _outcomes(self, observer: Observer) -> Iterator[Outcome]:
        run = self._run
        claims = None
        if self._ledger is not None and not run.retry_failed:
            videos = None if run.streams_list else list(self.videos)
            self._ledger.begin(RunRecord(list(self._bookkeeping.provenance.values()), run, videos))
        # One process schedules a streamed list, and its workers are told which videos to do: nobody else needs claims.
        if isinstance(self.root, Path) and not run.streams_list:
            claims = Claims(self.root, run.claim_seconds)
        executor = choose_executor(self._config, self._work, observer)
        schedule = Schedule(self._bookkeeping, executor, claims, self._ledger, observer)
        for outcome in schedule.outcomes(tasks(self.videos, run)):
            if not self._has_outcomes:
                self._has_outcomes = True
                self._keep_settings()
            if run.on_extraction == "print" and outcome.features is not None:
                print_features(outcome.features)
            yield outcome

    def _keep_settings(self) -> None:
        """Write the settings of this run beside its outputs, unless it repeats a part of other runs."""
        if self._ledger is not None and not self._run.retry_failed:
            by_feature = {extractor.feature: extractor.settings for extractor in self._bookkeeping.extractors}
            try:
                self._ledger.keep_settings(UsedSettings(self._run, by_feature))
            except WriteError as error:  # if nothing can be written at all, the outputs will say so
                log.warning("%s; the settings of this run are not kept", error)

    def _listed(self, paths: Paths) -> list[Video]:
        videos = videos_of(paths, self._run.pattern, self._run.output_path)
        if not self._run.retry_failed or self._ledger is None:
            return videos
        failed = self._ledger.failed(self._bookkeeping.provenance.values())
        keys = {video.recorded_key() for video in failed}
        return [video for video in videos if video.recorded_key() in keys] if videos else failed

    def _check_can_retry(self) -> None:
        path = self._run.output_path
        if self._run.retry_failed and path is not None and not choose_ledger(path).exists():
            raise SettingsError(f"retry_failed: no outcomes are recorded in {path}; check the output_path")

    def _check_needs_no_files(self) -> None:
        if any(extractor.extras.preview for extractor in self._bookkeeping.extractors):
            raise SettingsError(
                "preview writes a video beside the features: it needs an output_path, "
                "and on_extraction=save_numpy or save_pickle"
            )
        if self._run.retry_failed:
            raise SettingsError("retry_failed needs an output_path, and on_extraction=save_numpy or save_pickle")


class NewFolders:
    """The output folder and the folders above it that a run is about to make, so that it can remove them again.

    root: where the outputs go
    """

    def __init__(self, root: Location | None) -> None:
        folders = (root, *root.parents) if isinstance(root, Path) else ()
        self._made = list(takewhile(_is_missing, folders))

    def remove_if_empty(self) -> None:
        """Remove those of the folders that have nothing in them."""
        for folder in self._made:
            with suppress(OSError):  # it has something in it, or could not be made
                folder.rmdir()


def _is_missing(folder: Path) -> bool:
    try:
        return not folder.exists()
    except OSError:  # whoever makes it will say why
        return False


def _announcement(run: RunSettings, by_feature: Mapping[str, FeatureSettings]) -> str:
    """The first line of a run: which features of which networks it extracts, and where they go."""
    networks = {name: network_name(settings) for name, settings in by_feature.items()}
    features = " and ".join(f"{name} ({network})" if network else name for name, network in networks.items())
    where = f" into {shown(run.output_path)}" if run.writes_files and run.output_path is not None else ""
    return f"Extracting {printable(features)}{printable(where)}"


def print_features(features: Features) -> None:
    """Print each key and its array, then the maximum, mean and minimum of the array, as the reference tool does."""
    for key, array in features.arrays().items():
        print(key)
        print(array)
        print(f"max: {array.max():.8f}; mean: {array.mean():.8f}; min: {array.min():.8f}")
        print()


def _files_only(videos: Iterable[Video]) -> Iterator[Video]:
    """Yield the videos. Raises SettingsError for an array, which no other machine can read."""
    for video in videos:
        if isinstance(video.source, np.ndarray):
            raise SettingsError(f"{video.path}: engine=ray takes paths and URLs, not arrays")
        yield video


def _warn_without_classes(run: RunSettings, extractors: Iterable[Extractor]) -> None:
    for extractor in extractors:
        if run.show_pred and not extractor.predicts:
            can_preview = any(field.name == "preview" for field in fields(extractor.settings))
            instead = "; preview=true (--preview) writes a video to look at" if can_preview else ""
            log.warning("%s has no classes: show_pred has nothing to show%s", extractor.feature, instead)
