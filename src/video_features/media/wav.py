"""The header of a WAV file, of which FFmpeg does not tell that the file is shorter than it says."""

from __future__ import annotations

import struct
from fractions import Fraction

HEADER_BYTES = 1 << 20
# Sizes from here on, and none, are what programs write that do not know yet how much will follow.
UNKNOWN_SIZE = 0x7FFFF000
# Integers, floats, A-law, µ-law, and integers or floats by another name: of these each second has equally many bytes.
UNCOMPRESSED = (1, 3, 6, 7, 0xFFFE)


def stated_seconds(header: bytes) -> Fraction | None:
    """How long the sound is by the file's first bytes; None where they do not say."""
    if header[:4] != b"RIFF" or header[8:12] != b"WAVE":
        return None
    at, bytes_per_second = 12, 0
    while at + 8 <= len(header):
        name, size = struct.unpack_from("<4sI", header, at)
        if name == b"fmt " and at + 22 <= len(header):
            kind, _, rate, _, bytes_per_sample = struct.unpack_from("<HHIIH", header, at + 8)
            if kind not in UNCOMPRESSED:
                return None
            bytes_per_second = rate * bytes_per_sample
        elif name == b"data":
            return Fraction(size, bytes_per_second) if bytes_per_second and 0 < size < UNKNOWN_SIZE else None
        at += 8 + size + size % 2
    return None
