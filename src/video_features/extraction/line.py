"""The straight line, for one video and one or more features:

frames or sound → resample → windows → preprocess → batch → network → rows with start and end
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np

from ..errors import MediaError, reason_of
from ..features import Features, Prediction, Values
from ..media import Frame, MediaSource, Sound, Track
from ..outputs.provenance import OutputRecord, Provenance, SourceRecord
from ..outputs.rows import Rows, RowsInMemory, Staging
from ..timing import timed
from .batching import Batches
from .chain import Chain
from .sampling import Excerpt, Sampler, wants_of
from .streams import Row, Span, Stream, all_streams, check_length

T = TypeVar("T")

RELEASE_EVERY_SECONDS = 10.0  # each time takes milliseconds
HEADER_SECONDS = 1  # so much later than its header says a video may end


def read(
    source: MediaSource, lines: Sequence[Line], on_progress: Callable[[float], object] = lambda seconds: None
) -> None:
    """Decode the source once and give every line its frames or sound; rows may be under way after that. A segment is
    decoded no further than the lines need.

    on_progress: told after each frame or piece of sound how many seconds of the source are done
    Raises as `extract_from` does; then nothing is under way.
    """
    released = time.monotonic()
    try:
        wanted = {line.track for line in lines if not line.is_done}
        wants = wants_of([line.sampler for line in lines if not line.is_done])
        for track, sample in _timed(source.samples(wanted, wants)):
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
        for line in lines:
            line.end()
    except BaseException:
        for line in lines:
            line.cancel()
        raise


def _timed(samples: Iterator[T]) -> Iterator[T]:
    """The same, of which the profile tells how long they took to decode."""
    while True:
        with timed("decoding"):
            sample = next(samples, None)
        if sample is None:
            return
        yield sample


def release_free_memory() -> None:
    """Give memory that is free, but kept by the C library's allocator, back to the system; where it can, as glibc can.

    Buffers of many sizes come and go for as long as a video lasts, and the gaps between them add up.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


class Line:
    """One feature's way through one source: frames or sound in, features out.

    streams: what the feature is made of
    sampler: takes its frames or its sound from the source
    staging: where rows that do not fit in memory gather
    batches: where its windows wait for those of other lines
    provenance: for the record
    batch_size: rows in a pass, if the user gave a number
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        sampler: Sampler,
        source: MediaSource,
        staging: Staging,
        batches: Batches,
        *,
        provenance: Provenance,
        batch_size: int | None,
    ) -> None:
        self.sampler = sampler
        self._streams = streams
        self._source = source
        self._staging = staging
        self._provenance = provenance
        self._chains = {stream.key: Chain(stream, batch_size, batches) for stream in streams}
        self._values: dict[str, Rows] = {
            stream.key: staging.rows(stream.key, stream.dtype)
            if stream.rows_are_pictures
            else RowsInMemory(stream.dtype)
            for stream in streams
        }
        self._spans: dict[str, list[Span]] = {key: [] for key in self._chains}
        self._error: Exception | None = None
        self._described: SourceRecord | None = None  # the source, which may be closed before the rows are there
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

    def end(self) -> None:
        """The track is over; what is left of the rows is under way, or waits in `batches`."""
        self._check_start(self._reached)
        if self._error is None:
            try:
                self._take(self.sampler.finish())
                for key, chain in self._chains.items():
                    self._keep(key, chain.end())
                check_length(self._provenance.feature, self._streams, self.sampler, self.sampler.taken)
                self._described = SourceRecord.of_track(self._source, self.track)
            except Exception as error:
                self._fail(error)

    @property
    def is_ready(self) -> bool:
        """Whether `finish` would not have to wait for a network."""
        return self._error is not None or all(chain.is_ready for chain in self._chains.values())

    def finish(self) -> Features | Exception:
        """What came of it; waits for what is under way."""
        if self._error is None:
            try:
                for key, chain in self._chains.items():
                    self._keep(key, chain.rest())
                self._drop_what_not_all_have()
                return self._features()
            except Exception as error:
                self._fail(error)
        assert self._error is not None
        return self._error

    def cancel(self) -> None:
        """Give up what is under way."""
        for chain in self._chains.values():
            chain.cancel()

    def _take(self, items: Iterable[Frame | Excerpt]) -> None:
        for item in items:
            if isinstance(item, Frame):
                self._staging.show(item)
            for key, chain in self._chains.items():
                self._keep(key, chain.push(item))

    def _check_start(self, end: Fraction | None, *, off_by: int = 0) -> None:
        try:
            self.sampler.check_start(end, off_by=off_by)
        except MediaError as error:
            self._error = self._error or self._fail(error)

    def _fail(self, error: Exception) -> Exception:
        self.cancel()
        self._staging.close()  # which may hold much of a disk that others need
        self._error = MediaError(reason_of(error, self._source.location)) if isinstance(error, MediaError) else error
        return self._error

    def _keep(self, key: str, rows: Iterable[Row]) -> None:
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
        assert self._described is not None
        values = Values({key: self._values[key].finish(len(spans)) for key, spans in self._spans.items()})
        spans = self._spans[self._streams[0].key]
        pads = self.sampler.pads or any(stream.window.tail == "pad" for stream in self._streams)
        shapes = {key: list(array.shape) for key, array in values.items()}
        runtime = {stream.key: stream.run.runtime.name for stream in all_streams(self._streams)}
        return Features(
            values=values,
            start_seconds=np.array([float(span.seconds) for span in spans]),
            end_seconds=np.array([float(span.end_seconds) for span in spans]),
            fps=float(self.sampler.fps),
            padded_frames=np.array([span.padding for span in spans], np.int64) if pads else None,
            predictions=self._predictions() or None,
            record=OutputRecord(self._provenance, self._described, shapes, runtime).as_json(),
        )

    def _predictions(self) -> dict[str, list[Prediction]]:
        return {
            stream.key: [
                Prediction(float(span.seconds), float(span.end_seconds), span.classes)
                for span in self._spans[stream.key]
            ]
            for stream in self._streams
            if stream.labels is not None
        }
