"""What an extraction would give, told without one: a video's length and rate, and each feature's rows and shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from ..errors import MediaError, reason_of
from ..extraction import Extractor, Stream
from ..extraction.streams import check_length, rows_of
from ..media import MediaSource, frames_of, open_source
from ..registry import family, resolve_settings, split
from ..tasks.videos import Paths, Video, videos_of


@dataclass(frozen=True)
class Plan:
    """What one video would give.

    seconds: its length, as it states it; None where it does not, or cannot be read
    fps: its average rate, where its frames are taken
    is_estimate: whether the file does not state its number of frames, or how long its sound is, so that the numbers
        here are estimates
    frames: {feature: how many frames it would take}
    sound_seconds: {feature: how many seconds of sound it would take}
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
    """What `extract` with these features and settings would give: a plan a video, lazily. Nothing is decoded, but the
    first picture where the shape of a row depends on it, as that of flow does.

    The numbers follow from what a file's header says of its length and rate; a damaged file, or at a rate one whose own
    varies, may give other ones. No weights are needed, but for clip's `custom`, whose file tells its shape. What
    decides where a network runs and where features go (`device`, `output_path` …) is not looked at.
    Raises at once SettingsError for a feature or a setting that cannot be, WeightsError for `weights` that are no file.
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
    except Exception as error:  # whatever it is, the other videos go on
        return Plan(name, reasons={extractor.feature: reason_of(error, name) for extractor in extractors})


def _plan_opened(name: str, source: MediaSource, extractors: list[Extractor]) -> Plan:
    @cache
    def picture_size() -> tuple[int, int]:
        height, width, _ = next(frames_of(source)).rgb.shape
        return height, width

    seconds, fps, is_estimate = None, None, False
    found = Plan(name)
    for extractor in extractors:
        feature = extractor.feature
        try:
            track, sampler = extractor.track(source), extractor.sampler(source)
            taken = sampler.expected()
            seconds = max(filter(None, (seconds, track.end_seconds)), default=None)
            is_estimate = is_estimate or not track.is_length_stated
            if extractor.sound is None:
                fps, found.frames[feature] = source.video.fps, taken
            else:
                found.sound_seconds[feature] = taken / extractor.sound.rate
            if not taken:
                sampler.check_start(track.end_seconds)
            check_length(feature, extractor.streams, sampler, taken)
            rows = rows_of(extractor.streams, sampler.items(taken))
            found.shapes[feature] = {
                stream.key: (rows, *_row_shape(stream, picture_size)) for stream in extractor.streams
            }
        except MediaError as error:
            found.reasons[feature] = reason_of(error, name)
    length = None if seconds is None else float(seconds)
    return replace(found, seconds=length, fps=None if fps is None else float(fps), is_estimate=is_estimate)


def _row_shape(stream: Stream, picture_size: Callable[[], tuple[int, int]]) -> tuple[int, ...]:
    return stream.row_shape(*picture_size()) if callable(stream.row_shape) else stream.row_shape
