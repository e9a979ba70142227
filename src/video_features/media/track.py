"""One stream of a file: the container's clock, decoding, and whether it reaches the end that the file states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import av
import av.error

from ..errors import MediaError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

S = TypeVar("S")

FFMPEG_ERRORS = (av.error.FFmpegError, OSError)
MICROSECOND = Fraction(1, av.time_base)  # a tick of a container's own clock
# A stream that ends this much before its stated end is taken for truncated.
MISSING_SECONDS = 1


class FileTrack(Generic[S]):
    """A stream, read once. See `Track`.

    stream: PyAV's
    location: of the file, for messages
    reread: reads the file anew, and gives the packets of a stream
    reached: the end of what was decoded so far, in seconds; None before anything was
    """

    kind: ClassVar[str]
    of: ClassVar[str]
    is_end_guessed = False  # by FFmpeg, which then is no reason to expect more

    def __init__(
        self, container: InputContainer, stream: Any, location: str, reread: Callable[[Any], Iterator[Packet[Any]]]
    ) -> None:
        if stream.codec_context is None:
            raise MediaError(f"{location}: FFmpeg has no decoder for its {self.kind} stream")
        stream.thread_type = "AUTO"
        self.stream = stream
        self.location = location
        self.reached: Fraction | None = None
        self._container = container
        self._reread = reread

    @property
    def start_seconds(self) -> Fraction:
        start = self.stream.start_time
        return Fraction(0) if start is None else self._seconds(start)

    @property
    def end_seconds(self) -> Fraction | None:
        return self.stated_end() or container_end(self._container)

    @property
    def is_length_stated(self) -> bool:
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        raise NotImplementedError

    def stated_end(self) -> Fraction | None:
        """When the stream ends, as the file's header says; the container's start is 0."""
        stream = self.stream
        if self._container.format.name == "avi" and stream.frames:  # its duration is guessed anew where the file is cut
            return self.start_seconds + Fraction(stream.frames * stream.time_base)
        if stream.duration is not None and stream.time_base is not None:
            return self.start_seconds + Fraction(stream.duration * stream.time_base)
        try:  # Matroska: a tag with the end, such as 00:00:05.312000000, on the container's own clock
            hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds) - container_start(self._container)
        except ValueError:
            return None

    def take(self, packet: Packet[Any]) -> Iterator[S]:
        """What the packet makes ready. Raises MediaError where it cannot be decoded."""
        try:
            for decoded in packet.decode():
                yield from self._samples(decoded)
        except FFMPEG_ERRORS as error:
            raise broken(self.location, self.reached, error) from error

    def finish(self, container_reached: Fraction) -> Iterator[S]:
        """What is left when all packets were taken. Raises MediaError where there was nothing, or it ends too early.

        container_reached: the end of the last packet of any stream
        """
        yield from self._rest()
        if self.reached is None:
            raise MediaError(f"{self.location}: {self.of} in its {self.kind} stream could be decoded")
        stated, reached = self.stated_end(), self.reached
        if stated is None:  # then the container's end, which any of its streams may reach
            stated, reached = container_end(self._container), max(reached, container_reached)
        if stated is not None and not self.is_end_guessed and reached + MISSING_SECONDS < stated:
            raise MediaError(
                f"{self.location}: truncated: it ends at {float(reached):.2f} s of the {float(stated):.2f} s it states"
            )

    def _seconds(self, ticks: int) -> Fraction:
        return seconds_of(self._container, self.stream, ticks)

    def _samples(self, decoded: Any) -> Iterator[S]:
        raise NotImplementedError

    def _rest(self) -> Iterator[S]:
        return iter(())


def broken(location: str, reached: Fraction | None, error: Exception) -> MediaError:
    return MediaError(
        f"{location}: decoding failed after {float(reached or 0):.2f} s ({reason(error)}); is it damaged or truncated?"
    )


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def container_start(container: InputContainer) -> Fraction:
    return (container.start_time or 0) * MICROSECOND


def container_end(container: InputContainer) -> Fraction | None:
    return None if container.duration is None else container.duration * MICROSECOND


def start_ticks(container: InputContainer, stream: Any) -> int:
    """The tick of a stream that is 0 s: as in FFmpeg's tools the container's start, rounded to the stream's ticks."""
    if not stream.time_base:
        return 0
    start: Fraction = container_start(container) / stream.time_base
    if stream.start_time is not None and abs(stream.start_time - start) * stream.time_base < MICROSECOND:
        return int(stream.start_time)  # the container starts with it, and says so in coarser ticks
    return round(start)


def seconds_of(container: InputContainer, stream: Any, ticks: int) -> Fraction:
    """The time of a stream's tick; the container's start is 0."""
    return (ticks - start_ticks(container, stream)) * Fraction(stream.time_base or 0)
