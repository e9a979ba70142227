"""Reads image folders and arrays. These have no timestamps: frame k is shown at k / fps."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import cast

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from ...errors import MediaError, in_one_line
from ...timeline.rates import as_fraction
from ...timeline.segments import Segment
from ..identity import Identity, images_of
from ..source import BY_DEFAULT, RGB, Frame, ReadOptions, SoundTrack, Track, TrackRecord, Wants, Warnings
from ..timestamps import Shown


class Stills:
    """Frames at a constant rate. Both a source and its only track: see `MediaSource` and `FrameTrack`.

    Raises MediaError if `fps` is None.
    """

    kind = "stills"
    start_seconds = Fraction(0)
    is_length_stated = True
    has_constant_rate = True

    def __init__(self, count: int, identity: Identity, *, fps: float | None, segment: Segment | None) -> None:
        self.identity = identity
        self.segment = segment
        self.location = identity.location
        if fps is None:
            raise MediaError(f"{self.location}: {self.kind} has no frame rate of its own: give source_fps, such as 25")
        self.warnings = Warnings(self.location)
        self._count = count
        self.fps = as_fraction(fps)

    def __enter__(self) -> Stills:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def video(self) -> Stills:
        return self

    @property
    def audio(self) -> SoundTrack:
        return self.sound_track(BY_DEFAULT)

    def frame_track(self, options: ReadOptions) -> Stills:
        if options.video_stream is not None:
            raise MediaError(f"{self.location}: {self.kind} has no streams to choose from: leave out video_stream")
        if options.deinterlace:
            raise MediaError(f"{self.location}: {self.kind} cannot be deinterlaced: leave out deinterlace")
        return self

    def sound_track(self, options: ReadOptions) -> SoundTrack:
        raise MediaError(f"{self.location}: {self.kind} has no sound")

    @property
    def end_seconds(self) -> Fraction:
        return self._count / self.fps

    def frame_count(self) -> int:
        return self._count

    def describe(self) -> TrackRecord:
        return TrackRecord(fps=float(self.fps))

    def shown(self, options: ReadOptions) -> Shown:
        return Shown([k / self.fps for k in range(self._count)], self.end_seconds)

    def samples(
        self, tracks: Collection[Track], wants: Wants | None = None
    ) -> Iterator[tuple[Track, Frame | MediaError]]:
        for k in range(self._count):
            if self not in tracks:
                return
            yield self, Frame(k / self.fps, (k + 1) / self.fps, partial(self._picture, k), self._size(k))

    def _picture(self, k: int) -> RGB:
        raise NotImplementedError

    def _size(self, k: int) -> tuple[int, int] | None:
        """Return the height and width of a picture if they are known without decoding it."""
        return None


class ImageFolder(Stills):
    """The images in a folder, in natural order (2.jpg before 10.jpg), with their EXIF orientation applied."""

    kind = "a folder of images"

    def __init__(self, identity: Identity, *, fps: float | None, segment: Segment | None = None) -> None:
        self._images = images_of(Path(identity.location), identity.location)
        super().__init__(len(self._images), identity, fps=fps, segment=segment)

    def _picture(self, k: int) -> RGB:
        try:
            with PIL.Image.open(self._images[k]) as image:
                return np.asarray(_eight_bits(PIL.ImageOps.exif_transpose(image), self._images[k]).convert("RGB"))
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:  # SyntaxError: EXIF
            raise MediaError(f"{self._images[k]}: not an image that Pillow can read ({in_one_line(error)})") from error

    def _size(self, k: int) -> tuple[int, int] | None:
        try:
            with PIL.Image.open(self._images[k]) as image:  # reads only the header
                return image.height, image.width
        except Exception:  # `_picture` reports it
            return None


class FrameArray(Stills):
    """Frames in memory: RGB, uint8 (T, H, W, 3)."""

    kind = "an array"

    def __init__(
        self, rgb: npt.NDArray[np.uint8], identity: Identity, *, fps: float | None, segment: Segment | None = None
    ) -> None:
        self._rgb = rgb
        super().__init__(len(rgb), identity, fps=fps, segment=segment)

    def _picture(self, k: int) -> RGB:
        return cast(RGB, self._rgb[k])

    def _size(self, k: int) -> tuple[int, int]:
        return self._rgb.shape[1], self._rgb.shape[2]


def _eight_bits(image: PIL.Image.Image, path: Path) -> PIL.Image.Image:
    """Reduce a 16-bit grey image to its upper eight bits, and return any other image unchanged.

    Pillow's own conversion would clip 16-bit values to white.
    Raises MediaError if a channel has 32 bits.
    """
    if image.mode.startswith("I;16"):
        return PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise MediaError(
            f"{path}: expected 8 or 16 bits per channel, found 32 (mode {image.mode}): convert the image first"
        )
    return image
