"""Reads one source and extracts one or more features from it:

frames or sound → resample → windows → preprocess → batch → network → rows with start and end times
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
from ..runtimes.timing import timed
from .batching import Batches
from .chain import Chain
from .finite import FiniteCheck
from .frames import wants_of
from .sampling import Excerpt, Sampler
from .streams import Row, Span, Stream, all_streams, check_length

T = TypeVar("T")

RELEASE_EVERY_SECONDS = 10.0  # each release takes milliseconds
HEADER_TOLERANCE_SECONDS = 1  # a video may end this much later than its header states


def read(
    source: MediaSource, lines: Sequence[Line], on_progress: Callable[[float], object] = lambda seconds: None
) -> None:
    """Decode the source once and push its frames or sound to every line.

    Rows may still be in flight afterwards. Decoding stops as soon as no line needs more of the segment.

    on_progress: called after each frame or block of sound with the position in the source, in seconds
    Raises the errors of `extract_from`, after cancelling the work of every line.
    """
    last_release = time.monotonic()
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
            del sample  # a large picture must not stay in memory while the next one is decoded
            if time.monotonic() - last_release > RELEASE_EVERY_SECONDS:
                release_free_memory()
                last_release = time.monotonic()
        for line in lines:
            line.end()
    except BaseException:
        for line in lines:
            line.cancel()
        raise


def _timed(samples: Iterator[T]) -> Iterator[T]:
    """Yield the samples, and record the time that each took to decode."""
    while True:
        with timed("decoding"):
            sample = next(samples, None)
        if sample is None:
            return
        yield sample
        del sample


def release_free_memory() -> None:
    """Release unused heap memory to the system with glibc's malloc_trim. Does nothing if the C library lacks it.

    Decoding allocates and frees buffers of many sizes, so the heap fragments and grows over a long video.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


class Line:
    """Extracts one feature from one source: frames or sound in, features out.

    streams: the outputs of the feature
    sampler: selects the frames or the sound of the source
    staging: stores rows that do not fit in memory
    batches: batches that this line shares with other lines
    provenance: provenance of the features, for the record
    batch_size: rows in a network pass; None for the default
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
        self._checks = {stream.key: FiniteCheck(stream, provenance.settings) for stream in streams}
        self._error: Exception | None = None
        self._source_record: SourceRecord | None = None  # the source may be closed before the rows are complete
        self._last_end: Fraction | None = None  # end of the last sample, in seconds
        # Fail before decoding if the segment clearly starts after the end. `end` checks again with the decoded end,
        # as the header may be missing or slightly wrong.
        if self.track.is_length_stated:
            self._check_start(self.track.end_seconds, tolerance_seconds=HEADER_TOLERANCE_SECONDS)

    @property
    def track(self) -> Track:
        return self.sampler.track

    @property
    def is_done(self) -> bool:
        """True if the line needs no more samples: it failed, or has sampled the whole segment."""
        return self._error is not None or self.sampler.has_enough

    def push(self, sample: Frame | Sound | MediaError) -> None:
        """Add the next sample of the track, or the error that ended the track."""
        if not self.is_done:
            try:
                if isinstance(sample, MediaError):
                    raise sample
                self._last_end = sample.end_seconds
                self._push(self.sampler.take(sample))
            except Exception as error:  # fails this feature only, not the other features of the video
                self._fail(error)

    def end(self) -> None:
        """End the track. The remaining rows are in flight or wait in `batches`."""
        for warning in self.sampler.warnings():
            self._source.warnings.add(warning)
        self._check_start(self._last_end)
        if self._error is None:
            try:
                self._push(self.sampler.finish())
                for key, chain in self._chains.items():
                    self._append_rows(key, chain.end())
                check_length(self._provenance.feature, self._streams, self.sampler, self.sampler.taken)
                self._source_record = SourceRecord.of_track(self._source, self.track)
            except Exception as error:
                self._fail(error)

    @property
    def is_ready(self) -> bool:
        """True if `finish` would not wait for a network."""
        return self._error is not None or all(chain.is_ready for chain in self._chains.values())

    def finish(self) -> Features | Exception:
        """Return the features, or the error; waits for the rows in flight."""
        if self._error is None:
            try:
                for key, chain in self._chains.items():
                    self._append_rows(key, chain.rest())
                    self._checks[key].finish()
                self._drop_unmatched_padded_row()
                return self._features()
            except Exception as error:
                self._fail(error)
        assert self._error is not None
        return self._error

    def cancel(self) -> None:
        """Cancel the work that has not started."""
        for chain in self._chains.values():
            chain.cancel()

    def _push(self, items: Iterable[Frame | Excerpt]) -> None:
        for item in items:
            if isinstance(item, Frame):
                self._staging.show(item)
            for key, chain in self._chains.items():
                self._append_rows(key, chain.push(item))

    def _check_start(self, end: Fraction | None, *, tolerance_seconds: int = 0) -> None:
        try:
            self.sampler.check_start(end, tolerance_seconds=tolerance_seconds)
        except MediaError as error:
            self._error = self._error or self._fail(error)

    def _fail(self, error: Exception) -> Exception:
        self.cancel()
        self._staging.close()  # frees disk space that other videos may need
        self._error = MediaError(reason_of(error, self._source.location)) if isinstance(error, MediaError) else error
        return self._error

    def _append_rows(self, key: str, rows: Iterable[Row]) -> None:
        for row in rows:
            if self._checks[key].is_finite(len(self._spans[key]), row):
                self._values[key].append(row.value)
            self._spans[key].append(row.span)

    def _drop_unmatched_padded_row(self) -> None:
        """Drop the padded last row of a stream if another stream has no such row.

        A tail of one frame can fill a padded window of frames, but gives no row of flow, which needs pairs of frames.
        """
        row_count = min(len(spans) for spans in self._spans.values())
        for spans in self._spans.values():
            if len(spans) > row_count and spans[-1].padding:
                spans.pop()

    def _features(self) -> Features:
        assert self._source_record is not None
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
            record=OutputRecord(self._provenance, self._source_record, shapes, runtime).as_json(),
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
