"""Many videos: settle the settings, load the networks once, run one video after another, tell how each ended."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .errors import MediaError, OutputError, SettingsError, reason_of
from .extraction import Extractor, extract_from
from .features import Features, Outcome
from .layout import NUMPY, PICKLE
from .media import MediaSource, Source, open_source
from .records import describe_source
from .registry import family, split
from .rows import Draft
from .runtime import choose_device
from .settings import FeatureSettings, RunSettings, from_mapping, names_of, unknown
from .sinks import FileSink, NoSink, PrintSink, Sink

BAR = "{desc}: {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} s, {elapsed} gone, {remaining} left"
BAR_WITHOUT_END = "{desc}: {n:.1f} s, {elapsed} gone"  # where the file does not say how long it is
log = logging.getLogger(__name__)

MakeBar = Callable[[Fraction | None], "tqdm[Any]"]  # from the seconds of a video, where these are known
RUN_SETTINGS = {field.name for field in fields(RunSettings)}


def extract(
    paths: Source | Iterable[Source] | Mapping[str, Source],
    features: str | Sequence[str],
    *,
    progress: bool = False,
    **settings: Any,
) -> Iterator[Outcome]:
    """Extract features from videos, lazily: an outcome a video and feature, in the order of `paths`.

        for outcome in extract(["a.mp4", "b.mp4"], "clip", model_name="ViT-B/32", extraction_fps=1):
            if outcome.status != "failed":
                print(outcome.location, outcome.features.values["clip"].shape)

    paths: videos or sounds (path, `file://` or other URL), folders of images, arrays uint8 (T, H, W, 3) RGB; one or
        many. Arrays are called `array`, or by their place `array_0`, `array_1` …; `{name: array}` names them.
    features: a feature's name, or several, as a list or joined by commas; several share one decoding of each video
    progress: show a bar on standard error
    settings: those of the run (`device`, `output_path`, `on_extraction`, `show_pred`, `overwrite`, `source_fps`) and
        of the feature (`model_name`, `weights`, `batch_size`, `extraction_fps`, `stack_size` …). With several
        features, `clip={"model_name": "RN50"}` is for that one alone; the others go to each.

    Raises SettingsError or WeightsError at once if nothing can be extracted so. A video that fails does not raise: its
    outcome says why, and the next one follows.
    """
    run, by_feature = settle(split(features), settings)
    sink, device = _sink(run), choose_device(run.device)  # before the networks, which take longer
    extractors = [_built(name, chosen, run) for name, chosen in by_feature.items()]
    if not isinstance(sink, FileSink) and any(extractor.previews for extractor in extractors):
        raise SettingsError(
            "preview writes a video beside the features: it needs an output_path, "
            "and on_extraction=save_numpy or save_pickle"
        )
    for extractor in extractors:
        extractor.on(device)
    return _outcomes(named(paths), extractors, run, sink, progress)


def load(feature: str, *, device: str | None = None, show_pred: bool = False, **settings: Any) -> Extractor:
    """An extractor with its network in memory, for many calls of `extractor.extract(video)`.

    Raises SettingsError for an unknown feature, model or setting; WeightsError where the weights cannot be had.
    """
    if misplaced := settings.keys() & RUN_SETTINGS:
        raise SettingsError(
            f"load takes no {' and no '.join(sorted(misplaced))}: source_fps goes to the extractor's own method, "
            "load(…).extract(video, source_fps=…), and the others to the function video_features.extract"
        )
    run, by_feature = settle([feature], {**settings, "device": device, "show_pred": show_pred})
    extractor = _built(feature, by_feature[feature], run)
    if extractor.previews:
        raise SettingsError("load writes no files, and so no preview: use extract, with preview and an output_path")
    return extractor.on(choose_device(run.device))


def settle(features: Sequence[str], settings: Mapping[str, Any]) -> tuple[RunSettings, dict[str, FeatureSettings]]:
    """Sort settings into those of the run and those of each feature, typed and checked.

    settings: `name: value` for the run or for every feature, `feature.name: value` or `feature: {name: value}` for one
    Raises SettingsError for a name that none of them has, or a value that cannot be.
    """
    families = {name: family(name) for name in features}
    of_features = {field.name for one in families.values() for field in fields(one.Settings)}
    shared: dict[str, Any] = {}
    run: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {name: {} for name in families}
    for name, value in settings.items():
        feature, dot, setting = name.partition(".")
        if name in RUN_SETTINGS:
            run[name] = value
        elif dot and feature in own:
            own[feature][setting] = value
        elif name in own and isinstance(value, Mapping):
            own[name].update(value)
        elif dot and feature not in of_features:
            raise SettingsError(unknown("feature of this run", feature, own))
        else:
            shared[name] = value
    for name in shared:
        having = [feature for feature, one in families.items() if name in names_of(one.Settings)]
        if having and len(having) < len(families):
            lacking = ", ".join(feature for feature in families if feature not in having)
            raise SettingsError(
                f"{name} is no setting of {lacking}: give it to {' and '.join(having)} alone, "
                f"{having[0]}={{{name!r}: …}} (--{having[0]}.{name.replace('_', '-')})"
            )
    chosen = {
        name: from_mapping(one.Settings, {**shared, **own[name]}, of=name, also=RUN_SETTINGS)
        for name, one in families.items()
    }
    return from_mapping(RunSettings, run, of="the run"), chosen


def _built(feature: str, settings: FeatureSettings, run: RunSettings) -> Extractor:
    extractor = family(feature).build(settings, predict=run.show_pred)
    if run.show_pred and not extractor.predicts:
        can_preview = any(field.name == "preview" for field in fields(settings))
        instead = "; preview=true (--preview) writes a video to look at" if can_preview else ""
        log.warning("%s has no classes: show_pred has nothing to show%s", feature, instead)
    return extractor


def _sink(run: RunSettings) -> Sink:
    kind = run.on_extraction or ("save_numpy" if run.output_path else None)
    if kind is None:
        return NoSink()
    if kind == "print":
        return PrintSink()
    if run.output_path is None:
        raise SettingsError(f"on_extraction={kind} needs an output_path")
    try:
        run.output_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"output_path={run.output_path}: cannot be written ({error.strerror})") from error
    return FileSink(run.output_path, NUMPY if kind == "save_numpy" else PICKLE, overwrite=run.overwrite)


def named(paths: Source | Iterable[Source] | Mapping[str, Source]) -> dict[str, Source]:
    """The sources by what outcomes call them: paths as written, arrays by a name. Listed twice is listed once."""
    if isinstance(paths, Mapping):
        return dict(paths)
    if isinstance(paths, np.ndarray):
        return {"array": paths}
    if isinstance(paths, (str, os.PathLike)):
        return {os.fspath(paths): paths}
    return {
        f"array_{k}" if isinstance(source, np.ndarray) else os.fspath(source): source for k, source in enumerate(paths)
    }


def _outcomes(
    sources: dict[str, Source], extractors: list[Extractor], run: RunSettings, sink: Sink, progress: bool
) -> Iterator[Outcome]:
    for k, (name, source) in enumerate(sources.items()):
        label = f"[{k + 1}/{len(sources)}] {Path(name).name}"
        try:
            with open_source(source, fps=run.source_fps, array_name=name) as opened:
                outcomes = _one_video(opened, extractors, sink, partial(_bar, label, shown=progress))
        except BrokenPipeError:  # nobody reads what is printed any more
            raise
        except Exception as error:  # whatever it is, the other videos go on
            outcomes = [_failed(name, extractor, error) for extractor in extractors]
        yield from outcomes


def _bar(label: str, seconds: Fraction | None, *, shown: bool) -> tqdm[Any]:
    """A bar over the seconds of a video, on a terminal."""
    layout = BAR_WITHOUT_END if seconds is None else BAR
    return tqdm(
        total=None if seconds is None else float(seconds),
        desc=label,
        bar_format=layout,
        leave=False,
        disable=None if shown else True,
    )


def _one_video(source: MediaSource, extractors: list[Extractor], sink: Sink, make_bar: MakeBar) -> list[Outcome]:
    """Every extractor's outcome for one opened video, in their order."""
    started = time.monotonic()
    ends = {extractor.feature: _already(source, extractor, sink) for extractor in extractors}
    waiting = [extractor for extractor in extractors if ends[extractor.feature] is None]
    with ExitStack() as stack:
        drafts = [
            stack.enter_context(
                sink.draft(source.identity.name, _record(source, extractor), with_preview=extractor.previews)
            )
            for extractor in waiting
        ]
        results = _extract_waiting(source, waiting, drafts, make_bar)
        for extractor, draft, result in zip(waiting, drafts, results, strict=True):
            ends[extractor.feature] = _written(source, extractor, result, sink, draft, started)
    return [outcome for outcome in ends.values() if outcome is not None]


def _record(source: MediaSource, extractor: Extractor) -> dict[str, Any]:
    return {**extractor.describe(), "source": describe_source(source, extractor.track(source))}


def _already(source: MediaSource, extractor: Extractor, sink: Sink) -> Outcome | None:
    """The outcome where nothing is to be extracted: it is there, something else is in its place, or there is no track
    of it in the source."""
    try:
        record = _record(source, extractor)
        saved = sink.existing(
            source.identity.name, record, with_predictions=extractor.predicts, with_preview=extractor.previews
        )
    except (MediaError, OutputError) as error:
        return _failed(source.location, extractor, error)
    if saved is None:
        return None
    return Outcome(source.location, extractor.feature, "skipped", "already extracted", saved.features, saved.files)


def _extract_waiting(
    source: MediaSource, extractors: list[Extractor], drafts: list[Draft], make_bar: MakeBar
) -> Sequence[Features | Exception]:
    if not extractors:
        return []
    ends = [extractor.track(source).end_seconds for extractor in extractors]
    with make_bar(max(filter(None, ends), default=None)) as bar:

        def show(seconds: float) -> None:
            bar.update(max(0, min(seconds, bar.total or seconds) - bar.n))  # tracks are not wholly in step

        try:
            return extract_from(source, extractors, drafts, show)
        except Exception as error:  # the video itself: none of them has features
            return [error] * len(extractors)


def _written(
    source: MediaSource,
    extractor: Extractor,
    result: Features | Exception,
    sink: Sink,
    draft: Draft,
    started: float,
) -> Outcome:
    if isinstance(result, Features):
        try:
            saved = sink.write(source.identity.name, result, draft)
            elapsed = time.monotonic() - started
            return Outcome(source.location, extractor.feature, "done", "", saved.features, saved.files, elapsed)
        except OutputError as error:
            result = error
    return _failed(source.location, extractor, result)


def _failed(location: str, extractor: Extractor, error: Exception) -> Outcome:
    return Outcome(location, extractor.feature, "failed", reason_of(error, location))
