"""A container (a file of video or sound, local or remote) as PyAV opens it, and the container's clock."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import av
import av.error

from ..errors import MediaError
from .identity import Identity

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

FFMPEG_ERRORS = (av.error.FFmpegError, OSError)
MICROSECOND = Fraction(1, av.time_base)  # a tick of a container's own clock
PLAYLIST = b"ffconcat"  # such a list may name itself, and FFmpeg reads it until there is no file left to open


class Container:
    """An open file of any container format that FFmpeg reads.

    file: what PyAV opens: `file:PATH`, or an open binary file
    handle: PyAV's container
    Raises MediaError if FFmpeg cannot read the file.
    """

    def __init__(self, file: str | IO[bytes], identity: Identity) -> None:
        self.identity = identity
        self.location = identity.location
        self._file = file
        self.handle = self._open()

    @property
    def format(self) -> str:
        """FFmpeg's name of the container format."""
        return self.handle.format.name

    @property
    def is_local(self) -> bool:
        return isinstance(self._file, str)

    def close(self) -> None:
        self.handle.close()
        if not isinstance(self._file, str):
            self._file.close()

    @contextmanager
    def reopened(self) -> Iterator[Container]:
        """The same file, opened once more; afterwards a remote file is read on from where it was before."""
        position = None if isinstance(self._file, str) else self._file.tell()
        if not isinstance(self._file, str):
            self._file.seek(0)
        again = Container(self._file, self.identity)
        try:
            yield again
        finally:
            again.handle.close()
            if not isinstance(self._file, str):
                self._file.seek(position or 0)

    def beginning(self, size: int) -> bytes:
        """The first bytes of the file."""
        if isinstance(self._file, str):
            with Path(self._file.removeprefix("file:")).open("rb") as file:
                return file.read(size)
        at = self._file.tell()
        self._file.seek(0)
        try:
            return self._file.read(size)
        finally:
            self._file.seek(at)

    def _open(self) -> InputContainer:
        try:
            if self.beginning(len(PLAYLIST)) == PLAYLIST:
                raise MediaError(
                    f"{self.location}: a list of files for FFmpeg, and no video; name the files themselves"
                )
            return av.open(self._file, mode="r", metadata_errors="replace")
        except (*FFMPEG_ERRORS, ValueError) as error:
            raise MediaError(
                f"{self.location}: not a file of video or sound that FFmpeg can read ({reason(error)})"
            ) from error


def broken(location: str, reached: Fraction | None, error: Exception) -> MediaError:
    return MediaError(
        f"{location}: decoding failed after {float(reached or 0):.2f} s ({reason(error)}); is it damaged or truncated?"
    )


def reason(error: Exception) -> str:
    # Codes of decoders, for which there are no words, or the wrong ones.
    if isinstance(error, av.error.UndefinedError) or getattr(error, "errno", None) == errno.EPERM:
        return "FFmpeg refuses it"
    return getattr(error, "strerror", None) or str(error)


def container_start(container: InputContainer) -> Fraction:
    return (container.start_time or 0) * MICROSECOND


def container_end(container: InputContainer) -> Fraction | None:
    return container.duration * MICROSECOND if container.duration else None


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


def latest(container: InputContainer, ticks: Mapping[Any, int]) -> Fraction:
    """The time of the latest of these, each of its stream; 0 of none."""
    return max((seconds_of(container, stream, its) for stream, its in ticks.items()), default=Fraction(0))


def note_end(ticks: dict[Any, int], packet: Packet[Any]) -> None:
    """Keep where the latest packet of each stream ends."""
    if packet.pts is not None:
        end = packet.pts + (packet.duration or 0)
        ticks[packet.stream] = max(ticks.get(packet.stream, end), end)
