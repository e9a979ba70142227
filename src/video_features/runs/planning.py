"""Plan an extraction without running it: the length and rate of each video, and the rows and shape of each feature."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

from ..errors import MediaError, reason_of
from ..extraction import Extractor, Stream
from ..extraction.streams import check_length, rows_of
from ..media import MediaSource, ReadOptions, open_source, samples_of
from ..registry import family, resolve_settings, split
from ..tasks.videos import Paths, Video, videos_of


@dataclass(frozen=True)
class Plan:
    """What the extraction of one video would give.

    seconds: the length that the file states; None if it states none or cannot be read
    fps: the average frame rate; None if no feature needs frames
    is_estimate: whether the numbers are estimates, because the file does not state its number of frames or the length
        of its sound, or because its rate varies and frames are taken at a rate
    frames: {feature: the number of frames that it would use}
    sound_seconds: {feature: the seconds of sound that it would use}
    shapes: {feature: {key: (N, …)}}, the shapes of its values
    reasons: {feature: why it would fail}
    """

    location: str
    seconds: float | None = None
    fps: float | None = None
    is_estimate: bool = False
    frames: dict[str, int] = field(default_factory=dict)
    sound_seconds: dict[str, float] = field(default_factory=dict)
    shapes: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def plan(paths: Paths, features: str | Sequence[str], **settings: Any) -> Iterator[Plan]:
    """Plan what `extract` would give with these features and settings. Yields one plan per video, lazily.

    Nothing is decoded, except the first frame if the shape of a row depends on the frame size, as for optical flow. The
    numbers are computed from the length and the rate in the header of the file. They may be wrong for a damaged file,
    or with `extraction_fps` for a file with a variable frame rate.

    No weights are needed, except for the model `custom` of clip, where the file determines the shape. Settings that
    decide where a network runs and where features are written (`device`, `output_path` …) are not checked.

    Raises SettingsError at once for an unknown feature or an invalid setting, and WeightsError if `weights` is not a
    file.
    """
    run, by_feature = resolve_settings(split(features), settings)
    extractors = [family(name).build(chosen, predict=run.show_pred) for name, chosen in by_feature.items()]
    for extractor in extractors:
        extractor.check_files()
    return (_plan(video, extractors, run.source_fps) for video in videos_of(paths, run.pattern))


def _plan(video: Video, extractors: list[Extractor], source_fps: float | None) -> Plan:
    name = video.location
    try:
        with open_source(video.source, fps=source_fps, array_name=video.path, segment=video.segment) as opened:
            return _plan_opened(name, opened, extractors)
    except Exception as error:  # any error fails this video only
        return Plan(name, reasons={extractor.feature: reason_of(error, name) for extractor in extractors})


def _plan_opened(name: str, source: MediaSource, extractors: list[Extractor]) -> Plan:
    @cache
    def frame_size(options: ReadOptions) -> tuple[int, int]:
        height, width, _ = next(samples_of(source, source.frame_track(options))).rgb.shape
        return height, width

    seconds, fps, is_estimate = None, None, False
    found = Plan(name)
    for extractor in extractors:
        feature = extractor.feature
        try:
            track, sampler = extractor.track(source), extractor.sampler(source)
            count = sampler.expected()  # of frames, or of samples of sound
            seconds = max(filter(None, (seconds, track.end_seconds)), default=None)
            is_estimate = is_estimate or not sampler.is_exact
            if extractor.sound is None:
                fps, found.frames[feature] = track.describe().fps, count
            else:
                found.sound_seconds[feature] = count / extractor.sound.rate
            if not count:
                sampler.check_start(track.end_seconds)
            check_length(feature, extractor.streams, sampler, count)
            size = partial(frame_size, ReadOptions.of(extractor.settings))
            rows = rows_of(extractor.streams, sampler.items(count))
            found.shapes[feature] = {stream.key: (rows, *_row_shape(stream, size)) for stream in extractor.streams}
        except MediaError as error:
            found.reasons[feature] = reason_of(error, name)
    length = None if seconds is None else float(seconds)
    return replace(found, seconds=length, fps=fps, is_estimate=is_estimate)


def _row_shape(stream: Stream, frame_size: Callable[[], tuple[int, int]]) -> tuple[int, ...]:
    return stream.row_shape(*frame_size()) if callable(stream.row_shape) else stream.row_shape
