"""The straight line, for one video and one or more features:

frames or sound → resample → windows → preprocess → batch → network → rows with start and end
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from .errors import MediaError, reason_of
from .features import Features, Values
from .media import Frame, MediaSource, Sound, Source, Track, open_source
from .predictions import Prediction
from .records import describe_source, describe_weights, that_change_values, versions
from .rows import Draft, Rows, RowsInMemory
from .runtime import release_free_memory
from .sampling import Excerpt, FrameSampler, Sampler, SoundSampler, wants_of
from .settings import ClipSettings, FeatureSettings, PictureSettings
from .streams import Chain, Row, Span, Stream
from .weights import check_file
from .windows import SoundWindow, in_seconds, segment_of

RELEASE_EVERY_SECONDS = 10.0  # each time takes milliseconds
HEADER_SECONDS = 1  # so much later than its header says a video may end


@dataclass(kw_only=True)
class Extractor:
    """Everything that one feature needs; a family builds it, `load` puts its networks on a device.

    feature: the feature's name
    settings: which networks, at which rate, in which batches
    streams: what it gives; all have equally many rows, of the same times
    sound: the windows of sound that it takes, one a row, where it does not take frames
    previews: whether its rows, which are flow then, are also to be made into a video to look at
    """

    feature: str
    settings: FeatureSettings
    streams: Sequence[Stream] = field(repr=False)
    sound: SoundWindow | None = None
    previews: bool = False

    def on(self, device: torch.device) -> Extractor:
        """Load the networks onto `device`, and return the extractor. Raises WeightsError where that cannot be."""
        for stream in self.all_streams():
            stream.on(device)
        return self

    @property
    def predicts(self) -> bool:
        """Whether rows come with predictions."""
        return any(stream.labels is not None for stream in self.streams)

    def extract(
        self,
        source: Source,
        *,
        source_fps: float | None = None,
        start_seconds: float | None = None,
        end_seconds: float | None = None,
    ) -> Features:
        """The features of one video, sound, folder of images or array; see `open_source` for what these may be.

        source_fps: frames per second of a folder of images or an array
        start_seconds, end_seconds: of the part that is wanted, by default the whole
        Raises MediaError if it cannot be read to its end, or is too short for one row.
        """
        with open_source(source, fps=source_fps, segment=segment_of(start_seconds, end_seconds)) as opened:
            result = extract_from(opened, [self])[0]
        if isinstance(result, Exception):
            raise result
        return result

    def describe(self) -> dict[str, Any]:
        """What decides the numbers, and what helps to trace them: feature, settings, weights, versions."""
        return {
            "feature": self.feature,
            "settings": that_change_values(self.settings),
            "weights": {stream.key: describe_weights(stream.local_weights) for stream in self.all_streams()},
            "versions": versions(),
        }

    def track(self, source: MediaSource) -> Track:
        """What it is made of. Raises MediaError where a source has no frames, or no sound."""
        return source.video if self.sound is None else source.audio

    def sampler(self, source: MediaSource) -> Sampler:
        """What it takes of that track, from its beginning or the segment's."""
        if self.sound is not None:
            return SoundSampler(self.sound, source.audio, source.segment)
        assert isinstance(self.settings, PictureSettings)
        return FrameSampler(self.settings, source.video, source.segment)

    def check_start(self, source: MediaSource, end: Fraction | None, *, off_by: int = 0) -> None:
        """Raise MediaError where a segment starts when the track is over.

        end: of the track, in seconds, which may be later by `off_by`; None where nobody knows
        """
        segment = source.segment
        if segment is not None and end is not None and segment.start >= end + off_by:
            track = "video" if self.sound is None else "sound"
            raise MediaError(
                f"{source.location}: the segment starts at {in_seconds(segment.start)}, and its {track} ends at "
                f"{in_seconds(end)}"
            )

    def check_length(self, taken: int, sampler: Sampler, source: MediaSource) -> None:
        """Raise MediaError, with the least that is needed, where so much of a source gives no row."""
        if self.rows(sampler.items(taken)):
            return
        hint = f"; {sampler.takes_more}" if sampler.takes_more else ""
        if taken >= sampler.least(self._least_items(padded=True), padded=True):
            hint = f"; tail=pad (--tail pad) {sampler.padded_with}"
        least = sampler.least(self._least_items(), padded=False)
        where = "" if source.segment is None else f" {source.segment.in_words()}"
        raise MediaError(
            f"{source.location}: too short for {self.feature}: {sampler.in_words(taken)}{where}, "
            f"and one row needs at least {sampler.in_words(least)}{hint}"
        )

    def check_files(self) -> None:
        """Raise WeightsError where a checkpoint of the user's own is not there."""
        for stream in self.all_streams():
            check_file(stream.weights, model=stream.model)

    def rows(self, items: int) -> int:
        """The number of rows that so many frames, or windows of sound, give."""
        return min(stream.rows(items) for stream in self.streams)

    @property
    def pads(self) -> bool:
        """Whether the last row may be filled up."""
        return any(part.tail == "pad" for part in (self.sound, *(stream.window for stream in self.streams)) if part)

    def _least_items(self, *, padded: bool = False) -> int:
        """How many frames, or windows of sound, one row needs; padded: if the tail could be, and were."""
        padded = padded and isinstance(self.settings, ClipSettings)
        return max(stream.least_frames(padded=padded) for stream in self.streams)

    def all_streams(self) -> list[Stream]:
        """Every stream once, those that others are over before them."""
        return list({id(stream): stream for last in self.streams for stream in last.chain()}.values())


def extract_from(
    source: MediaSource,
    extractors: Sequence[Extractor],
    drafts: Sequence[Draft] | None = None,
    on_progress: Callable[[float], object] = lambda seconds: None,
) -> list[Features | Exception]:
    """Decode the source once and give every extractor its frames or sound: its features, or what kept it from them.
    A segment is decoded no further than the extractors need.

    drafts: where each extractor's rows gather; by default in memory
    on_progress: told after each frame or piece of sound how many seconds of the source are done
    Raises MediaError where the source itself fails, or has no frames or sound for one of them.
    """
    drafts = [Draft() for _ in extractors] if drafts is None else drafts
    lines = [_Line(extractor, source, draft) for extractor, draft in zip(extractors, drafts, strict=True)]
    released = time.monotonic()
    wanted = {line.track for line in lines if not line.is_done}
    wants = wants_of([line.sampler for line in lines if not line.is_done])
    for track, sample in source.samples(wanted, wants):
        takers = [line for line in lines if line.track is track]
        for line in takers:
            line.push(sample)
        if all(line.is_done for line in takers):
            wanted.discard(track)
        if not isinstance(sample, MediaError):
            on_progress(float(sample.end_seconds))
        if time.monotonic() - released > RELEASE_EVERY_SECONDS:
            release_free_memory()
            released = time.monotonic()
    return [line.finish() for line in lines]


class _Line:
    """One extractor's way through one source: frames or sound in, features out."""

    def __init__(self, extractor: Extractor, source: MediaSource, draft: Draft) -> None:
        self._extractor = extractor
        self._source = source
        self._draft = draft
        self.sampler = extractor.sampler(source)
        self._chains = {stream.key: Chain(stream, extractor.settings.batch_size) for stream in extractor.streams}
        self._values: dict[str, Rows] = {
            stream.key: draft.rows(stream.key, stream.dtype) if stream.rows_are_pictures else RowsInMemory(stream.dtype)
            for stream in extractor.streams
        }
        self._spans: dict[str, list[Span]] = {key: [] for key in self._chains}
        self._error: Exception | None = None
        self._reached: Fraction | None = None  # the end of what came
        if self.track.is_length_stated:  # else, and where it is only a little too late, decoding tells
            self._check_start(self.track.end_seconds, off_by=HEADER_SECONDS)

    @property
    def track(self) -> Track:
        return self.sampler.track

    @property
    def is_done(self) -> bool:
        """Whether it takes no more of its track: it failed, or has all of the segment."""
        return self._error is not None or self.sampler.has_enough

    def push(self, sample: Frame | Sound | MediaError) -> None:
        """Take the next of the track's samples, or why there are no more."""
        if not self.is_done:
            try:
                if isinstance(sample, MediaError):
                    raise sample
                self._reached = sample.end_seconds
                self._take(self.sampler.take(sample))
            except Exception as error:  # the other features of this video go on
                self._fail(error)

    def finish(self) -> Features | Exception:
        self._check_start(self._reached)
        if self._error is None:
            try:
                self._take(self.sampler.finish())
                for key, chain in self._chains.items():
                    self._keep(key, chain.finish())
                self._extractor.check_length(self.sampler.taken, self.sampler, self._source)
                self._drop_what_not_all_have()
                return self._features()
            except Exception as error:
                return self._fail(error)
        return self._error

    def _take(self, items: Iterable[Frame | Excerpt]) -> None:
        for item in items:
            if isinstance(item, Frame):
                self._draft.show(item)
            for key, chain in self._chains.items():
                self._keep(key, chain.push(item))

    def _check_start(self, end: Fraction | None, *, off_by: int = 0) -> None:
        try:
            self._extractor.check_start(self._source, end, off_by=off_by)
        except MediaError as error:
            self._error = self._error or self._fail(error)

    def _fail(self, error: Exception) -> Exception:
        self._draft.close()  # which may hold much of a disk that others need
        self._error = MediaError(reason_of(error, self._source.location)) if isinstance(error, MediaError) else error
        return self._error

    def _keep(self, key: str, rows: list[Row]) -> None:
        for row in rows:
            self._values[key].append(row.value.numpy())
            self._spans[key].append(row.span)

    def _drop_what_not_all_have(self) -> None:
        """A padded row, where the tail holds a frame but nothing between frames, as flow is."""
        least = min(len(spans) for spans in self._spans.values())
        for spans in self._spans.values():
            if len(spans) > least and spans[-1].padding:
                spans.pop()

    def _features(self) -> Features:
        extractor = self._extractor
        values = Values({key: self._values[key].finish(len(spans)) for key, spans in self._spans.items()})
        spans = self._spans[extractor.streams[0].key]
        return Features(
            values=values,
            start_seconds=np.array([float(span.seconds) for span in spans]),
            end_seconds=np.array([float(span.end_seconds) for span in spans]),
            fps=float(self.sampler.fps),
            padded_frames=np.array([span.padding for span in spans], np.int64) if extractor.pads else None,
            predictions=self._predictions() if extractor.predicts else None,
            record={
                **extractor.describe(),
                "source": describe_source(self._source, self.track),
                "shapes": {key: list(array.shape) for key, array in values.items()},
            },
        )

    def _predictions(self) -> dict[str, list[Prediction]]:
        return {
            stream.key: [
                Prediction(float(span.seconds), float(span.end_seconds), span.classes)
                for span in self._spans[stream.key]
            ]
            for stream in self._extractor.streams
            if stream.labels is not None
        }
