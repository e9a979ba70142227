"""Opens containers (local or remote video and audio files) with PyAV, and converts between ticks and seconds."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import av
import av.error

from ..errors import MediaError
from .identity import Identity
from .source import Warnings

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

FFMPEG_ERRORS = (av.error.FFmpegError, OSError)
MICROSECOND = Fraction(1, av.time_base)  # one tick of a container's own clock, in seconds
# An ffconcat playlist may name itself. FFmpeg would then open files until the process has no file handles left.
PLAYLIST_PREFIX = b"ffconcat"


class Container:
    """An open file in any container format that FFmpeg reads.

    file: the input for PyAV: `file:PATH`, or an open binary file
    handle: the PyAV container
    warnings: what was repaired, left out or contradictory in the file so far
    Raises MediaError if FFmpeg cannot read the file.
    """

    def __init__(self, file: str | IO[bytes], identity: Identity, warnings: Warnings | None = None) -> None:
        self.identity = identity
        self.location = identity.location
        self.warnings = warnings or Warnings(identity.location)
        self._file = file
        self.handle = self._open()

    @property
    def format(self) -> str:
        """FFmpeg's name for the container format."""
        return self.handle.format.name

    @property
    def is_local(self) -> bool:
        return isinstance(self._file, str)

    def close(self) -> None:
        self.handle.close()
        if not isinstance(self._file, str):
            self._file.close()

    def as_binary_file(self) -> IO[bytes]:
        """Close the container, and return the file, at its start, for another library to read and to close."""
        self.handle.close()
        return binary_file(self._file)

    @contextmanager
    def reopened(self) -> Iterator[Container]:
        """Open the same file a second time, and close it after the `with` block.

        A remote file is shared between both containers. Its read position is restored after the block.
        """
        position = None if isinstance(self._file, str) else self._file.tell()
        if not isinstance(self._file, str):
            self._file.seek(0)
        again = Container(self._file, self.identity, self.warnings)
        try:
            yield again
        finally:
            again.handle.close()
            if not isinstance(self._file, str):
                self._file.seek(position or 0)

    def first_bytes(self, size: int) -> bytes:
        """Return the first `size` bytes of the file. The read position does not change."""
        if isinstance(self._file, str):
            with Path(self._file.removeprefix("file:")).open("rb") as file:
                return file.read(size)
        position = self._file.tell()
        self._file.seek(0)
        try:
            return self._file.read(size)
        finally:
            self._file.seek(position)

    def _open(self) -> InputContainer:
        try:
            if self.first_bytes(len(PLAYLIST_PREFIX)) == PLAYLIST_PREFIX:
                raise MediaError(f"{self.location}: a list of files for FFmpeg, not a video; give the files themselves")
            return av.open(self._file, mode="r", metadata_errors="replace")
        except (*FFMPEG_ERRORS, ValueError) as error:
            raise MediaError(
                f"{self.location}: not a video or audio file that FFmpeg can read ({error_text(error)})"
            ) from error


def binary_file(file: str | IO[bytes]) -> IO[bytes]:
    """Return an input for PyAV, `file:PATH` or an open binary file, as a binary file at its start."""
    if isinstance(file, str):
        return Path(file.removeprefix("file:")).open("rb")
    file.seek(0)
    return file


def packets_of(container: InputContainer, *streams: Any) -> Iterator[Packet[Any]]:
    """Yield the packets of these streams, or of all. Streams that FFmpeg finds only while it reads are left out."""
    with suppress(IndexError):  # from PyAV, when it flushes such a stream after all others
        yield from container.demux(*streams)


def decoding_error(location: str, reached: Fraction | None, error: Exception) -> MediaError:
    """Return the error for a file that cannot be decoded beyond `reached` (seconds; None if nothing was decoded)."""
    return MediaError(
        f"{location}: decoding failed after {float(reached or 0):.2f} s ({error_text(error)}); "
        "is the file damaged or truncated?"
    )


def error_text(error: Exception) -> str:
    """Return the cause of an FFmpeg error as text."""
    # Some decoders return codes that have no text, or EPERM, whose text ("Operation not permitted") is misleading.
    if isinstance(error, av.error.UndefinedError) or getattr(error, "errno", None) == errno.EPERM:
        return "FFmpeg rejected the data"
    return getattr(error, "strerror", None) or str(error)


def container_start(container: InputContainer) -> Fraction:
    """Return the start of the container, in seconds on the container's own clock."""
    return (container.start_time or 0) * MICROSECOND


def container_end(container: InputContainer) -> Fraction | None:
    """Return the end of the container in seconds, where the container's start is 0; None if it is unknown."""
    return container.duration * MICROSECOND if container.duration else None


def start_ticks(container: InputContainer, stream: Any) -> int:
    """Return the tick of a stream at 0 s.

    As in FFmpeg's tools, this is the container's start, rounded to a tick of the stream.
    """
    if not stream.time_base:
        return 0
    start: Fraction = container_start(container) / stream.time_base
    if stream.start_time is not None and abs(stream.start_time - start) * stream.time_base < MICROSECOND:
        return int(stream.start_time)  # the container starts with this stream, but states that in coarser ticks
    return round(start)


def seconds_of(container: InputContainer, stream: Any, ticks: int) -> Fraction:
    """Return the time of a tick of a stream in seconds; the container's start is 0."""
    return (ticks - start_ticks(container, stream)) * Fraction(stream.time_base or 0)


def latest_seconds(container: InputContainer, ticks: Mapping[Any, int]) -> Fraction:
    """Return the latest time in seconds among `ticks` ({stream: tick}), or 0 if there are none."""
    return max((seconds_of(container, stream, tick) for stream, tick in ticks.items()), default=Fraction(0))


def note_end(ticks: dict[Any, int], packet: Packet[Any]) -> None:
    """Record in `ticks` ({stream: tick}) where the latest packet of each stream ends."""
    if packet.pts is not None:
        end = packet.pts + (packet.duration or 0)
        ticks[packet.stream] = max(ticks.get(packet.stream, end), end)
