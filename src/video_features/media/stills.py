"""Frames that have no timestamps of their own: a folder of images, or an array. Frame k is shown at k / fps."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from ..errors import MediaError, in_one_line
from ..windows import as_fraction
from .samples import RGB, Frame
from .source import SoundTrack, Track

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class _Stills:
    """A known number of frames at a constant rate: a source, and its only track. See `MediaSource`, `FrameTrack`."""

    kind = "stills"
    size_bytes: int | None = None
    start_seconds = Fraction(0)
    is_length_stated = True

    def __init__(self, count: int, *, fps: float | None, name: str, location: str, address: str) -> None:
        if fps is None:
            raise MediaError(f"{location}: {self.kind} has no frame rate of its own: give source_fps, such as 25")
        self._count = count
        self.fps = as_fraction(fps)
        self.name = name
        self.location = location
        self.address = address

    def __enter__(self) -> _Stills:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def video(self) -> _Stills:
        return self

    @property
    def audio(self) -> SoundTrack:
        raise MediaError(f"{self.location}: no sound in it: it is {self.kind}")

    @property
    def end_seconds(self) -> Fraction:
        return self._count / self.fps

    def frame_count(self) -> int:
        return self._count

    def describe(self) -> dict[str, Any]:
        return {"fps": float(self.fps)}

    def samples(self, tracks: Collection[Track]) -> Iterator[tuple[Track, Frame]]:
        for k in range(self._count):
            if self not in tracks:
                return
            yield self, Frame(k / self.fps, (k + 1) / self.fps, partial(self._picture, k))

    def _picture(self, k: int) -> RGB:
        raise NotImplementedError


class ImageFolder(_Stills):
    """The images of a folder in natural order (2.jpg before 10.jpg), EXIF orientation applied."""

    kind = "a folder of images"

    def __init__(self, folder: Path, *, fps: float | None, location: str) -> None:
        images = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        self._images = sorted(images, key=_natural_key)
        if not self._images:
            raise MediaError(
                f"{location}: a folder with no images in it (for videos or sounds, name the files: {folder}/*)"
            )
        self.size_bytes = sum(path.stat().st_size for path in self._images)
        absolute = folder.resolve()
        super().__init__(len(self._images), fps=fps, name=absolute.name, location=str(folder), address=str(absolute))

    def _picture(self, k: int) -> RGB:
        try:
            with PIL.Image.open(self._images[k]) as image:
                return np.asarray(_eight_bits(PIL.ImageOps.exif_transpose(image), self._images[k]).convert("RGB"))
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:  # of EXIF, SyntaxError
            raise MediaError(f"{self._images[k]}: not an image that Pillow can read ({in_one_line(error)})") from error


class FrameArray(_Stills):
    """Frames that are already in memory: uint8 (T, H, W, 3), RGB."""

    kind = "an array"

    def __init__(self, rgb: npt.NDArray[Any], *, fps: float | None, name: str) -> None:
        if rgb.ndim != 4 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8 or len(rgb) == 0:
            raise MediaError(f"{name}: expected frames as uint8 (T, H, W, 3) with T ≥ 1, found {rgb.dtype} {rgb.shape}")
        self._rgb: npt.NDArray[np.uint8] = rgb
        self.size_bytes = rgb.nbytes
        digest = hashlib.sha256(np.ascontiguousarray(rgb).data).hexdigest()
        super().__init__(len(rgb), fps=fps, name=name, location=name, address=f"array sha256:{digest}")

    def _picture(self, k: int) -> RGB:
        return cast(RGB, self._rgb[k])


def _eight_bits(image: PIL.Image.Image, path: Path) -> PIL.Image.Image:
    """16-bit grey by its upper eight bits, which Pillow's own conversion would clip to white; the rest as it is."""
    if image.mode.startswith("I;16"):
        return PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise MediaError(f"{path}: expected 8 or 16 bits a channel, found 32 (mode {image.mode}): convert it first")
    return image


def _natural_key(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
