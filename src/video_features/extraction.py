"""The straight line, for one video and one or more features:

frames → resample → windows → preprocess → batch → network → rows with start and end
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .errors import MediaError, counted, reason_of
from .features import Features, Values
from .media import Frame, FrameSource, Source, open_source
from .predictions import Prediction
from .records import describe_source, describe_weights, versions
from .rows import Draft, Rows, RowsInMemory
from .runtime import release_free_memory
from .sampling import Sampler
from .settings import ClipSettings, FeatureSettings, that_change_values
from .streams import Chain, Row, Span, Stream
from .weights import check_file

RELEASE_EVERY_SECONDS = 10.0  # each time takes milliseconds


@dataclass(kw_only=True)
class Extractor:
    """Everything that one feature needs; a family builds it, `load` puts its networks on a device.

    feature: the feature's name
    settings: which networks, at which rate, in which batches
    streams: what it gives; all have equally many rows, of the same times
    previews: whether its rows, which are flow then, are also to be made into a video to look at
    """

    feature: str
    settings: FeatureSettings
    streams: Sequence[Stream] = field(repr=False)
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

    def extract(self, source: Source, *, source_fps: float | None = None) -> Features:
        """The features of one video, folder of images or array; see `open_source` for what these may be.

        source_fps: frames per second of a folder of images or an array
        Raises MediaError if it cannot be read to its end, or is too short for one row.
        """
        with open_source(source, fps=source_fps) as opened:
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

    def check_length(self, frames: int, sampler: Sampler, source: FrameSource) -> None:
        """Raise MediaError, with the least number of frames, where so many give no row."""
        least = self._least_frames()
        if frames >= least:
            return
        at = "" if sampler.fps == source.fps else f" at {float(sampler.fps):g} fps"
        hint = ""
        if isinstance(self.settings, ClipSettings) and frames >= self._least_frames(padded=True):
            hint = "; tail=pad (--tail pad) repeats the last one to fill a row"
        elif at:
            name = "extraction_fps" if self.settings.extraction_fps else "extraction_total"
            hint = f"; a higher {name} takes more"
        raise MediaError(
            f"{source.location}: too short for {self.feature}: {counted(frames, 'frame')}{at}, "
            f"and one row needs at least {least}{hint}"
        )

    def check_files(self) -> None:
        """Raise WeightsError where a checkpoint of the user's own is not there."""
        for stream in self.all_streams():
            check_file(stream.weights, model=stream.model)

    def rows(self, frames: int) -> int:
        """The number of rows that so many frames give."""
        return min(stream.rows(frames) for stream in self.streams)

    def _least_frames(self, *, padded: bool = False) -> int:
        return max(stream.least_frames(padded=padded) for stream in self.streams)

    def all_streams(self) -> list[Stream]:
        """Every stream once, those that others are over before them."""
        return list({id(stream): stream for last in self.streams for stream in last.chain()}.values())


def extract_from(
    source: FrameSource,
    extractors: Sequence[Extractor],
    drafts: Sequence[Draft] | None = None,
    on_progress: Callable[[float], object] = lambda seconds: None,
) -> list[Features | Exception]:
    """Decode the source once and give every extractor its frames: its features, or what kept it from them.

    drafts: where each extractor's rows gather; by default in memory
    on_progress: told after each frame how many seconds of the source are done
    Raises MediaError where the source itself fails: no extractor has features then.
    """
    drafts = [Draft() for _ in extractors] if drafts is None else drafts
    lines = [_Line(extractor, source, draft) for extractor, draft in zip(extractors, drafts, strict=True)]
    released = time.monotonic()
    for frame in source.frames():
        for line in lines:
            line.push(frame)
        if all(line.failed for line in lines):
            break
        on_progress(float(frame.end_seconds))
        if time.monotonic() - released > RELEASE_EVERY_SECONDS:
            release_free_memory()
            released = time.monotonic()
    return [line.finish() for line in lines]


class _Line:
    """One extractor's way through one source: frames in, features out."""

    def __init__(self, extractor: Extractor, source: FrameSource, draft: Draft) -> None:
        self._extractor = extractor
        self._source = source
        self._draft = draft
        self._sampler = Sampler(extractor.settings, source)
        self._chains = {stream.key: Chain(stream, extractor.settings.batch_size) for stream in extractor.streams}
        self._values: dict[str, Rows] = {
            stream.key: draft.rows(stream.key, stream.dtype) if stream.rows_are_pictures else RowsInMemory(stream.dtype)
            for stream in extractor.streams
        }
        self._spans: dict[str, list[Span]] = {key: [] for key in self._chains}
        self._error: Exception | None = None

    @property
    def failed(self) -> bool:
        return self._error is not None

    def push(self, frame: Frame) -> None:
        if self._error is None:
            try:
                for shown in self._sampler.take(frame):
                    self._draft.show(shown)
                    for key, chain in self._chains.items():
                        self._keep(key, chain.push(shown))
            except Exception as error:  # the other features of this video go on
                self._fail(error)

    def finish(self) -> Features | Exception:
        if self._error is None:
            try:
                for key, chain in self._chains.items():
                    self._keep(key, chain.finish())
                self._extractor.check_length(self._sampler.taken, self._sampler, self._source)
                self._drop_what_not_all_have()
                return self._features()
            except Exception as error:
                return self._fail(error)
        return self._error

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
        padded = any(stream.window.tail == "pad" for stream in extractor.streams)
        return Features(
            values=values,
            start_seconds=np.array([float(span.seconds) for span in spans]),
            end_seconds=np.array([float(span.end_seconds) for span in spans]),
            fps=float(self._sampler.fps),
            padded_frames=np.array([span.padding for span in spans], np.int64) if padded else None,
            predictions=self._predictions() if extractor.predicts else None,
            record={
                **extractor.describe(),
                "source": describe_source(self._source),
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
