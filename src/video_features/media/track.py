"""One stream of a container, decoded: its start and end, and whether it reaches the end that the file states."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from ..errors import MediaError, printable
from .container import (
    FFMPEG_ERRORS,
    Container,
    broken,
    container_end,
    container_start,
    latest,
    note_end,
    reason,
    start_ticks,
)
from .source import TrackRecord

if TYPE_CHECKING:
    from av.packet import Packet
    from typing_extensions import Self

log = logging.getLogger(__name__)

S = TypeVar("S")

# A stream that ends this much before its stated end is taken for truncated.
MISSING_SECONDS = 1
# So much may be lost to decoding at its beginning and its end: recordings are cut in the middle of a packet, or a few.
LOST_SECONDS = Fraction(1, 4)


class FileTrack(Generic[S]):
    """A stream of a file, read once. See `Track`.

    What cannot be decoded right at its beginning or its end is left out, with a warning.

    stream: PyAV's
    reached: the end of what was decoded so far, in seconds; None before anything was
    """

    kind: ClassVar[str]
    nothing: ClassVar[str]

    def __init__(self, container: Container, stream: Any) -> None:
        if stream.codec_context is None:
            raise MediaError(f"{container.location}: FFmpeg has no decoder for its {self.kind} stream")
        stream.thread_type = "AUTO"
        self.container = container
        self.stream = stream
        self.reached: Fraction | None = None
        self._error: Exception | None = None  # the first since something was decoded
        self._broke_at: int | None = None  # the tick of what could not be
        self._ends: dict[Any, int] = {}  # of its packets, see `note_end`
        self._has_timestamps = True  # of its own, and not such as FFmpeg counts

    @property
    def start_seconds(self) -> Fraction:
        start = self.stream.start_time
        return Fraction(0) if start is None else self._seconds(start)

    @property
    def end_seconds(self) -> Fraction | None:
        return self.stated_end() or container_end(self.container.handle)

    @property
    def is_end_guessed(self) -> bool:
        """Whether the end is only FFmpeg's guess, which is no reason to expect more."""
        return False

    @property
    def is_length_stated(self) -> bool:
        raise NotImplementedError

    def describe(self) -> TrackRecord:
        raise NotImplementedError

    def stated_end(self) -> Fraction | None:
        """When the stream ends, as the file's header says; the container's start is 0."""
        stream = self.stream
        if self.container.format == "avi" and stream.frames:  # its duration is guessed anew where the file is cut
            return Fraction(stream.frames * stream.time_base)
        if stream.duration and stream.time_base:
            return self.start_seconds + Fraction(stream.duration * stream.time_base)
        try:  # Matroska: a tag with the end, such as 00:00:05.312000000, on the container's own clock
            hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds) - container_start(self.container.handle)
        except ValueError:
            return None

    @contextmanager
    def reopened(self) -> Iterator[Self]:
        """The same stream from its file's beginning, read independently of this one."""
        with self.container.reopened() as again:
            yield type(self)(again, again.handle.streams[self.stream.index])

    def take(self, packet: Packet[Any]) -> Iterator[S]:
        """What the packet makes ready. Raises MediaError where one before it could not be decoded."""
        if self._has_timestamps:
            note_end(self._ends, packet)
        try:
            for decoded in packet.decode():
                self._check_goes_on(decoded.pts)
                yield from self._samples(decoded)
        except FFMPEG_ERRORS as error:
            if self._error is None:
                self._error, self._broke_at = error, packet.pts

    def stop(self, error: Exception) -> Iterator[S]:
        """What the decoder holds back, where the file's own data break off, so that no last packet comes."""
        with suppress(*FFMPEG_ERRORS):
            for decoded in self.stream.decode(None):
                yield from self._samples(decoded)
        self._error = self._error or error

    def leave(self) -> None:
        """No more of it is wanted, although there may be more."""

    def finish(self, file_reached: Fraction) -> Iterator[S]:
        """What is left when all packets were taken. Raises MediaError where there was nothing, or it ends too early.

        file_reached: the end of the last packet of any stream
        """
        yield from self._rest()
        location, stated = self.container.location, self.stated_end()
        if self._error is not None:
            # What a guess takes for sound may be something else behind it.
            may_lack = MISSING_SECONDS if self.is_end_guessed else LOST_SECONDS
            if self.reached is None or self.reached + may_lack < max(self._packets_end, stated or 0):
                raise broken(location, self.reached, self._error)
            self._forgive(f"from {float(self.reached):.2f} s on")
        if self.reached is None:
            raise MediaError(f"{location}: {self.nothing} in its {self.kind} stream could be decoded")
        reached = self.reached
        if stated is None:  # then the container's end, which any of its streams may reach
            stated, reached = container_end(self.container.handle), max(reached, file_reached)
        if stated is not None and not self.is_end_guessed and reached + MISSING_SECONDS < stated:
            raise MediaError(
                f"{location}: truncated: it ends at {float(reached):.2f} s of the {float(stated):.2f} s it states"
            )
        if stated is not None and not self.is_end_guessed and reached + LOST_SECONDS < stated:
            log.warning(
                "%s: its %s ends at %.2f s of the %.2f s it states", printable(location), self.kind, reached, stated
            )

    def _check_goes_on(self, ticks: int | None) -> None:
        """Raise where more could not be decoded than may be lost, or elsewhere than at the beginning and the end.

        ticks: of what was decoded now
        """
        # A decoder gives frames later than their packets come.
        is_earlier = ticks is not None and self._broke_at is not None and ticks < self._broke_at
        if self._error is None or is_earlier:
            return
        stated = self.stated_end()
        since = self.start_seconds if self.reached is None else self.reached
        until = self._packets_end if ticks is None else self._seconds(ticks)
        is_at_an_end = self.reached is None or (stated is not None and self.reached + LOST_SECONDS >= stated)
        if not is_at_an_end or until - since > LOST_SECONDS:
            raise broken(self.container.location, self.reached, self._error)
        self._forgive(f"from {float(since):.2f} s to {float(until):.2f} s")

    def _forgive(self, where: str) -> None:
        assert self._error is not None
        what = f"its {self.kind} {where} cannot be decoded ({reason(self._error)}), and is left out"
        log.warning("%s: %s", printable(self.container.location), what)
        self._error = self._broke_at = None

    @property
    def _packets_end(self) -> Fraction:
        return latest(self.container.handle, self._ends)

    def _seconds(self, ticks: int) -> Fraction:
        return (ticks - self._zero) * self._tick

    @cached_property
    def _zero(self) -> int:
        return start_ticks(self.container.handle, self.stream)

    @cached_property
    def _tick(self) -> Fraction:
        return Fraction(self.stream.time_base or 0)

    def _samples(self, decoded: Any) -> Iterator[S]:
        raise NotImplementedError

    def _rest(self) -> Iterator[S]:
        return iter(())
