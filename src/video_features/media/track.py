"""Decodes one stream of a container, and checks that it reaches the end that the file states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ..errors import MediaError
from .container import (
    FFMPEG_ERRORS,
    Container,
    container_end,
    container_start,
    decoding_error,
    error_text,
    latest_seconds,
    note_end,
    start_ticks,
)
from .source import BY_DEFAULT, ReadOptions, TrackRecord

if TYPE_CHECKING:
    from av.packet import Packet
    from typing_extensions import Self

S = TypeVar("S")

# A stream that ends this many seconds before its stated end counts as truncated.
MISSING_SECONDS = 1
# Formats that list all samples in their header, which FFmpeg reads when it opens the file.
FORMATS_WITH_INDEX = {"mov,mp4,m4a,3gp,3g2,mj2"}
# This much may be undecodable at the start and at the end of a stream, as recordings are cut in the middle of packets.
LOST_SECONDS = Fraction(1, 4)


@dataclass(frozen=True)
class Indexed:
    """What the index of a file says of a stream: how many samples are shown, and for how many ticks in all."""

    count: int
    ticks: int


class FileTrack(Generic[S]):
    """A stream of a file, read once. See `Track`.

    Data at the very start or end of the stream that cannot be decoded is left out, with a warning.

    stream: the PyAV stream
    options: how to read it
    reached: the end of the decoded samples so far, in seconds; None before the first sample
    kind: the kind of stream, for messages: `video` or `audio`
    sample_noun: the noun for a decoded sample, for messages
    Raises MediaError if FFmpeg has no decoder for the stream.
    """

    kind: ClassVar[str]
    sample_noun: ClassVar[str]

    def __init__(self, container: Container, stream: Any, options: ReadOptions = BY_DEFAULT) -> None:
        if stream.codec_context is None:
            raise MediaError(f"{container.location}: FFmpeg has no decoder for the {self.kind} stream")
        if not stream.codec_context.is_open:  # another track may have decoded the stream
            stream.thread_type = "AUTO"
        self.container = container
        self.stream = stream
        self.options = options
        self.reached: Fraction | None = None
        self._error: Exception | None = None  # the first error after the last decoded sample
        self._failed_pts: int | None = None  # timestamp of the packet that failed
        self._packet_ends: dict[Any, int] = {}  # {stream: tick} of its packets, see `note_end`
        self._has_timestamps = True  # False if the file has none and FFmpeg counts them

    @property
    def start_seconds(self) -> Fraction:
        start = self.stream.start_time
        # If the container has no start, FFmpeg has guessed that of the stream. In Matroska with B-frames, the guess is
        # a few frames late, which are many seconds in a slideshow.
        return Fraction(0) if start is None or self.container.handle.start_time is None else self._seconds(start)

    @property
    def end_seconds(self) -> Fraction | None:
        return self.stated_end() or container_end(self.container.handle)

    @property
    def is_end_guessed(self) -> bool:
        """True if the end is only FFmpeg's estimate. A stream that ends earlier then does not count as truncated."""
        return False

    @property
    def is_length_stated(self) -> bool:
        raise NotImplementedError

    def describe(self) -> TrackRecord:
        raise NotImplementedError

    def stated_end(self) -> Fraction | None:
        """Return the end of the stream in seconds as the file header states it, or None; the container's start is 0."""
        stream = self.stream
        if self.container.format == "avi" and stream.frames:  # FFmpeg estimates the duration of a cut AVI file
            return Fraction(stream.frames * stream.time_base)
        ticks = stream.duration if self.indexed is None else self.indexed.ticks
        if ticks and stream.time_base:
            return self.start_seconds + Fraction(ticks * stream.time_base)
        try:  # Matroska: a tag with the end on the container's clock, such as 00:00:05.312000000
            hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds) - container_start(self.container.handle)
        except ValueError:
            return None

    @cached_property
    def indexed(self) -> Indexed | None:
        """What the index says, if that differs from the header by more than two samples; else None.

        The header of a fragmented file may describe the first fragment only. An edit list may hide samples. Some
        programs state the duration in ticks of another length.
        """
        stream = self.stream
        entries: Any = getattr(stream, "index_entries", ())  # before PyAV 16.1 there are none
        if self.container.format not in FORMATS_WITH_INDEX or len(entries) < 2:
            return None
        step = Fraction(entries[-1].timestamp - entries[0].timestamp, len(entries) - 1)
        ticks = entries[-1].timestamp - entries[0].timestamp + step
        if not stream.frames and ticks + step / 2 < (stream.duration or 0):
            return None  # the index of a fragmented file (DASH) that grows as the fragments are read
        if len(entries) == stream.frames and abs(ticks - (stream.duration or 0)) <= 2 * step:
            return None
        shown = sum(not entry.is_discard for entry in entries)
        return Indexed(shown, round(shown * step)) if shown else None

    @contextmanager
    def reopened(self) -> Iterator[Self]:
        """Open the same stream at the beginning of the file, independently of this track."""
        with self.container.reopened() as again:
            yield type(self)(again, again.handle.streams[self.stream.index], self.options)

    def decode(self, packet: Packet[Any]) -> Iterator[S]:
        """Decode a packet, and yield the samples that become available.

        Raises MediaError if earlier packets could not be decoded and more was lost than is tolerated.
        """
        if self._has_timestamps:
            note_end(self._packet_ends, packet)
        try:
            for decoded in packet.decode():
                self._check_loss(decoded.pts)
                yield from self._to_samples(decoded)
        except FFMPEG_ERRORS as error:
            if self._error is None:
                self._error, self._failed_pts = error, packet.pts

    def flush_after_error(self, error: Exception) -> Iterator[S]:
        """Yield the samples that the decoder still holds when the file breaks off before the final flush packet.

        error: the error of reading the file; `finish` decides whether to raise or to tolerate it
        """
        with suppress(*FFMPEG_ERRORS):
            for decoded in self.stream.decode(None):
                yield from self._to_samples(decoded)
        self._error = self._error or error

    def cancel(self) -> None:
        """End decoding before the end of the stream, because the caller needs no more samples."""

    def finish(self, file_reached: Fraction) -> Iterator[S]:
        """Yield the remaining samples after the last packet.

        file_reached: the end of the last packet of any stream, in seconds
        Raises MediaError if nothing was decoded, or if the stream ends too early.
        """
        yield from self._flush()
        location, stated = self.container.location, self.stated_end()
        if self._error is not None:
            # An estimated end may include data behind the sound that is not sound, so tolerate more.
            tolerated = MISSING_SECONDS if self.is_end_guessed else LOST_SECONDS
            if self.reached is None or self.reached + tolerated < max(self._packets_end, stated or 0):
                raise decoding_error(location, self.reached, self._error)
            self._warn_left_out(f"from {float(self.reached):.2f} s on")
        if self.reached is None:
            raise MediaError(f"{location}: no {self.sample_noun} in the {self.kind} stream could be decoded")
        reached = self.reached
        if stated is None:  # use the end of the container, which any of its streams may reach
            stated, reached = container_end(self.container.handle), max(reached, file_reached)
        if stated is not None and not self.is_end_guessed and reached + MISSING_SECONDS < stated:
            raise MediaError(
                f"{location}: truncated: it ends at {float(reached):.2f} s of the {float(stated):.2f} s it states"
            )
        if stated is not None and not self.is_end_guessed and reached + LOST_SECONDS < stated:
            self.container.warnings.add(
                f"the {self.kind} ends at {float(reached):.2f} s of the {float(stated):.2f} s it states"
            )

    def _check_loss(self, ticks: int | None) -> None:
        """Raise MediaError if undecodable data is too long, or is not at the start or the end of the stream.

        ticks: timestamp of the sample that was just decoded
        """
        # Decoders delay their output, so this sample may come from a packet before the one that failed.
        is_earlier = ticks is not None and self._failed_pts is not None and ticks < self._failed_pts
        if self._error is None or is_earlier:
            return
        stated = self.stated_end()
        start = self.start_seconds if self.reached is None else self.reached
        end = self._packets_end if ticks is None else self._seconds(ticks)
        is_at_edge = self.reached is None or (stated is not None and self.reached + LOST_SECONDS >= stated)
        if not is_at_edge or end - start > LOST_SECONDS:
            raise decoding_error(self.container.location, self.reached, self._error)
        self._warn_left_out(f"from {float(start):.2f} s to {float(end):.2f} s")

    def _warn_left_out(self, where: str) -> None:
        """Log that a part of the stream is left out, and clear the error."""
        assert self._error is not None
        text = error_text(self._error)
        self.container.warnings.add(f"the {self.kind} {where} cannot be decoded ({text}) and is left out")
        self._error = self._failed_pts = None

    @property
    def _packets_end(self) -> Fraction:
        return latest_seconds(self.container.handle, self._packet_ends)

    def _seconds(self, ticks: int) -> Fraction:
        return (ticks - self._start_ticks) * self._tick

    @cached_property
    def _start_ticks(self) -> int:
        return start_ticks(self.container.handle, self.stream)

    @cached_property
    def _tick(self) -> Fraction:
        return Fraction(self.stream.time_base or 0)

    def _to_samples(self, decoded: Any) -> Iterator[S]:
        raise NotImplementedError

    def _flush(self) -> Iterator[S]:
        return iter(())
