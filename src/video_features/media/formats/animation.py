"""Reads pictures that FFmpeg does not show whole, with Pillow: animated WebP, and AVIF and HEIC pictures of tiles."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from types import TracebackType
from typing import IO, cast

import numpy as np
import PIL.features
import PIL.Image
import PIL.ImageOps

from ...errors import MediaError, in_one_line
from ...timeline.segments import Segment
from ..container import Container
from ..identity import Identity
from ..source import RGB, Frame, ReadOptions, Track, Wants
from ..timestamps import Shown
from .stills import Stills

# Browsers show a picture with a duration of 0 as long as this.
ZERO_DURATION = Fraction(1, 10)


def open_with_pillow(container: Container, identity: Identity, segment: Segment | None) -> Animation:
    """Open a file for which `needs_pillow` is True. The container is closed.

    Raises MediaError if the file is truncated, or if Pillow cannot read the format.
    """
    is_webp = container.format == "webp_pipe"
    open_image = PIL.Image.open if is_webp else _opener(container, identity)
    file = container.as_binary_file()
    try:
        # FFmpeg shows a picture without tiles for a second. Do the same.
        durations = webp_durations(file, identity.location) if is_webp else [Fraction(1)]
        return Animation(file, open_image, durations, identity, segment)
    except BaseException:
        file.close()
        raise


def _opener(container: Container, identity: Identity) -> Callable[[IO[bytes]], PIL.Image.Image]:
    """Return what opens a picture of tiles. Raises MediaError if the library for it is not installed."""
    brands = container.handle.metadata.get("major_brand", "") + container.handle.metadata.get("compatible_brands", "")
    if "avif" in brands:
        if PIL.features.check("avif"):
            return PIL.Image.open
        name, package = "an AVIF", "pillow>=11.3"
    else:
        try:
            import pillow_heif

            return cast("Callable[[IO[bytes]], PIL.Image.Image]", pillow_heif.HeifImageFile)
        except ImportError:
            name, package = "a HEIC", "video_features[heif]"
    raise MediaError(
        f"{identity.location}: {name} picture of tiles, which FFmpeg does not put together: "
        f'pip install "{package}", or convert the picture to PNG or JPEG'
    )


def webp_durations(file: IO[bytes], location: str) -> list[Fraction]:
    """Return how long each picture of an animated WebP file is shown, in seconds, as its chunks state.

    Raises MediaError if the file ends before its last chunk does, or holds no picture.
    """
    durations: list[Fraction] = []
    position, file_bytes = 12, file.seek(0, 2)
    file.seek(4)
    end = 8 + int.from_bytes(file.read(4), "little")
    while position + 8 <= min(end, file_bytes):
        file.seek(position)
        head = file.read(24)
        name, size = struct.unpack_from("<4sI", head)
        if name == b"ANMF" and len(head) == 24:
            milliseconds = int.from_bytes(head[20:23], "little")  # after the place and the size, 3 bytes each
            durations.append(Fraction(milliseconds, 1000) or ZERO_DURATION)
        position += 8 + size + size % 2
    if (expected := max(position, end)) > file_bytes + 1:
        raise MediaError(f"{location}: truncated: an animated WebP of {expected} bytes, found {file_bytes}")
    if not durations:
        raise MediaError(f"{location}: an animated WebP without a picture; is the file damaged?")
    return durations


class Animation(Stills):
    """Pictures that Pillow reads, each shown for a time of its own. Both a source and its only track.

    file: the open file, which is closed with the source
    open_image: opens the file as an image with one or several pictures
    durations: how long each picture is shown, in seconds
    """

    kind = "a picture or an animation"
    has_constant_rate = False

    def __init__(
        self,
        file: IO[bytes],
        open_image: Callable[[IO[bytes]], PIL.Image.Image],
        durations: Sequence[Fraction],
        identity: Identity,
        segment: Segment | None,
    ) -> None:
        super().__init__(len(durations), identity, fps=1, segment=segment)
        self._file = file
        self._open_image = open_image
        self._times = [Fraction(0), *accumulate(durations)]
        self.fps = len(durations) / self._times[-1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def end_seconds(self) -> Fraction:
        return self._times[-1]

    def shown(self, options: ReadOptions) -> Shown:
        return Shown(self._times[:-1], self._times[-1])

    def samples(
        self, tracks: Collection[Track], wants: Wants | None = None
    ) -> Iterator[tuple[Track, Frame | MediaError]]:
        reached = Fraction(0)
        self._file.seek(0)
        try:
            image = self._open_image(self._file)
            for k, (start, end) in enumerate(pairwise(self._times)):
                if self not in tracks:
                    return
                image.seek(k)
                yield self, _frame(start, end, np.asarray(PIL.ImageOps.exif_transpose(image).convert("RGB")))
                reached = end
        except (OSError, ValueError, EOFError, SyntaxError, RuntimeError, PIL.Image.DecompressionBombError) as error:
            yield (
                self,
                MediaError(
                    f"{self.location}: Pillow cannot decode it after {float(reached):.2f} s ({in_one_line(error)}); "
                    "is the file damaged or truncated?"
                ),
            )


def _frame(start: Fraction, end: Fraction, rgb: RGB) -> Frame:
    return Frame(start, end, lambda: rgb, (rgb.shape[0], rgb.shape[1]))
