"""Reads the header of WAV files, and repairs that of files over 4 GB whose 32-bit sizes have wrapped round."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import IO, Any, cast

from ..container import binary_file
from ..identity import Identity
from ..source import Warnings

WAV_HEADER_BYTES = 1 << 20
# A program that does not know the size of the sound in advance writes 0, or a size of at least this many bytes.
MIN_UNKNOWN_SIZE = 0x7FFFF000
# WAV format tags of integers, floats, A-law, µ-law, and extensible (integers or floats). Their bit rate is constant.
CONSTANT_RATE_TAGS = (1, 3, 6, 7, 0xFFFE)
WRAP = 1 << 32
UNKNOWN = 0xFFFFFFFF


def wav_seconds(header: bytes) -> Fraction | None:
    """Return the length that the header of a WAV file states, in seconds, or None if it states none.

    FFmpeg does not report that a WAV file is shorter than its header states.
    """
    bytes_per_second = 0
    for name, start, size in _chunks(header):
        if name == b"fmt " and start + 14 <= len(header):
            tag, _, rate, _, bytes_per_sample = struct.unpack_from("<HHIIH", header, start)
            if tag not in CONSTANT_RATE_TAGS:
                return None
            bytes_per_second = rate * bytes_per_sample
        elif name == b"data":
            return Fraction(size, bytes_per_second) if bytes_per_second and 0 < size < MIN_UNKNOWN_SIZE else None
    return None


def repaired(file: str | IO[bytes], identity: Identity, warnings: Warnings) -> str | IO[bytes]:
    """Return the file, or, if it is a WAV file whose sizes have wrapped round, the same sound as an RF64 file.

    RF64 is WAV with sizes of 64 bits. FFmpeg would read only what the wrapped size states, and would take minutes to
    search the rest for chunks.

    file: the input for PyAV: `file:PATH`, or an open binary file
    warnings: receives a warning that states the real size
    """
    if not identity.size_bytes or identity.size_bytes < WRAP:
        return file
    opened = binary_file(file)
    header = opened.read(WAV_HEADER_BYTES)
    data = next(((start, size) for name, start, size in _chunks(header) if name == b"data"), None)
    size = None if data is None else _unwrapped_size(opened, header, *data, identity.size_bytes)
    if data is None or size is None:
        if isinstance(file, str):
            opened.close()
        else:
            opened.seek(0)
        return file
    warnings.add(
        f"the header states {data[1]} bytes of sound, and the file holds {size}: the sizes have wrapped round at 4 GB; "
        "all of the sound is read"
    )
    start = data[0]
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, identity.size_bytes - 8 + 36, size, 0, 0)
    unknown = struct.pack("<I", UNKNOWN)
    header = b"RF64" + unknown + b"WAVE" + sizes + header[12 : start - 4] + unknown
    return cast(IO[bytes], _WithHeader(opened, header, start, identity.size_bytes))


def _unwrapped_size(file: IO[bytes], header: bytes, start: int, size: int, file_bytes: int) -> int | None:
    """Return the real size of the sound in bytes if the stated size is a multiple of 2^32 short, else None.

    The size has wrapped round if the sound then ends with the file, if the size of the file has wrapped round too, or
    if another chunk, such as the title, follows the sound.

    start, size: where the sound starts in the file, and its size as stated
    """
    wraps, left = divmod(file_bytes - start - size, WRAP)
    if wraps <= 0 or not 0 < size < UNKNOWN:
        return None
    real_size = size + wraps * WRAP
    (riff_size,) = struct.unpack_from("<I", header, 4)
    file.seek(start + real_size + size % 2)  # a chunk of an odd size is followed by a byte of padding
    name, chunk_size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
    is_chunk = name.isascii() and name.decode().isprintable() and chunk_size + 8 <= left
    has_file_wrapped = (file_bytes - 8 - riff_size) % WRAP <= 1
    return real_size if left <= size % 2 or has_file_wrapped or is_chunk else None


def _chunks(header: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, the position of the content, and the size of each chunk whose start lies in the header."""
    if header[:4] != b"RIFF" or header[8:12] != b"WAVE":
        return
    position = 12
    while position + 8 <= len(header):
        name, size = struct.unpack_from("<4sI", header, position)
        yield name, position + 8, size
        position += 8 + size + size % 2


class _WithHeader(io.RawIOBase):
    """A file with another header.

    header: takes the place of the first `replaced` bytes of `file`, which is closed with this file
    file_bytes: the size of `file`
    """

    def __init__(self, file: IO[bytes], header: bytes, replaced: int, file_bytes: int) -> None:
        self._file = file
        self._header = header
        self._shift = len(header) - replaced
        self._size = file_bytes + self._shift
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted, data = len(buffer), self._header[self._position : self._position + len(buffer)]
        if len(data) < wanted:
            self._file.seek(self._position + len(data) - self._shift)
            data += self._file.read(wanted - len(data))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
