"""Transforms from a frame to a network's input, each following one fixed convention, and from frames to clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from ..media import RGB

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


def from_pil(transform: Callable[[PIL.Image.Image], Any]) -> Callable[[RGB], npt.NDArray[Any]]:
    """Wrap a library's transform of PIL images as a transform of frames: uint8 (H, W, 3) → float32 (3, h, w)."""
    return lambda rgb: np.asarray(transform(PIL.Image.fromarray(rgb)))


def channels_first(rgb: RGB) -> npt.NDArray[np.uint8]:
    """uint8 (H, W, 3) → uint8 (3, H, W), which shows the same memory."""
    planes: npt.NDArray[np.uint8] = rgb.transpose(2, 0, 1)
    return planes


def unit_range(rgb: RGB) -> Floats:
    """uint8 (H, W, 3) → float32 (3, H, W) in 0 … 1."""
    levels = channels_first(rgb).astype(np.float32, order="C")
    levels /= 255  # in place: a large picture in floats takes gigabytes
    return levels


def centre_start(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """Return the first row and column of the centre, as in torchvision's `center_crop`: half a pixel rounds to even."""
    return round((size[0] - crop[0]) / 2), round((size[1] - crop[1]) / 2)


def resize_bilinear(
    image: npt.NDArray[Any],
    size: tuple[int, int] | None = None,
    *,
    scale: float | None = None,
    crop: tuple[int, int] | None = None,
) -> Floats:
    """(…, H, W) → float32 (…, *size), or (…, ⌊H · scale⌋, ⌊W · scale⌋): PyTorch's bilinear without antialiasing.

    `size` and `scale` sample positions that differ by a fraction of a pixel: with `scale`, PyTorch computes the source
    positions from the given scale, not from the ratio of the rounded sizes.

    crop: (height, width) of the centre to return, as of torchvision's `center_crop`; only this part is computed

    The positions and the weights are PyTorch's to the last bit, on CPUs with fused multiply-add. The values differ by
    roundings of float32, at most 3e-7 of the largest value.
    """
    height, width = image.shape[-2:]
    if size is None:
        assert scale is not None, "give size or scale"
        size = math.floor(height * scale), math.floor(width * scale)
    crop = crop or size
    top, left = centre_start(size, crop)
    above, below, down = _neighbours(height, size[0], scale, top, crop[0])
    before, after, across = _neighbours(width, size[1], scale, left, crop[1])
    columns = image[..., before[0] : after[-1] + 1]  # those that are needed
    lines = np.multiply(columns[..., above, :], (1 - down)[:, None], dtype=np.float32, order="C")
    lines += columns[..., below, :] * down[:, None]
    resized: Floats = np.take(lines, before - before[0], axis=-1)
    resized *= 1 - across
    lines = np.take(lines, after - before[0], axis=-1)
    lines *= across
    resized += lines
    return resized


@lru_cache(maxsize=64)
def _neighbours(source: int, size: int, scale: float | None, start: int, count: int) -> tuple[Indices, Indices, Floats]:
    """Return the indices of the neighbours before and after each pixel, and the weight of the neighbour after.

    source, size: pixels of an axis before and after resizing
    start, count: which of its pixels
    """
    if size == source:
        scale = None  # PyTorch copies an axis whose size does not change, whatever the scale
    step = np.float32(1 / scale) if scale else np.float32(source) / np.float32(size)
    centres = np.arange(start, start + count, dtype=np.float64) + 0.5
    # PyTorch multiplies and subtracts with a single rounding. The product of two float32 is exact in float64.
    positions = np.maximum((centres * step - 0.5).astype(np.float32), 0)
    before = np.minimum(positions.astype(np.intp), source - 1)
    after = np.minimum(before + 1, source - 1)
    return before, after, np.clip(positions - before.astype(np.float32), 0, 1)


@dataclass(frozen=True)
class Resize:
    """Resizes an image with PIL's bilinear filter, which antialiases. Keeps the aspect ratio, rounding sides down.

    side: length of the smaller side in pixels; None keeps the image as it is
    smaller: False if `side` is the length of the larger side
    """

    side: int | None
    smaller: bool = True

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a resized image."""
        if self.side is None:
            return height, width
        source_side = min(height, width) if self.smaller else max(height, width)
        return max(1, self.side * height // source_side), max(1, self.side * width // source_side)

    def __call__(self, rgb: RGB) -> RGB:
        """uint8 (H, W, 3) → uint8 (h, w, 3)."""
        height, width = self.size(*rgb.shape[:2])
        if (height, width) == rgb.shape[:2]:
            return rgb
        return np.asarray(PIL.Image.fromarray(rgb).resize((width, height), PIL.Image.Resampling.BILINEAR))


def single(window: Sequence[Any]) -> Any:
    """Return the only item of a window of size 1."""
    (item,) = window
    return item


def as_clip(window: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Frames (C, H, W) → a clip (C, T, H, W)."""
    return np.stack(window, axis=1)
