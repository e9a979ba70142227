"""Transforms from a frame to a network's input, each following one fixed convention, and from frames to clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..media import RGB


def from_pil(transform: Callable[[PIL.Image.Image], Tensor]) -> Callable[[RGB], Tensor]:
    """Wrap a library's transform of PIL images as a transform of frames: uint8 (H, W, 3) → float32 (3, h, w)."""
    return lambda rgb: transform(PIL.Image.fromarray(rgb))


def channels_first(rgb: RGB) -> Tensor:
    """uint8 (H, W, 3) → uint8 (3, H, W)."""
    return torch.from_numpy(np.require(rgb, requirements=["C", "W"])).permute(2, 0, 1)


def unit_range(rgb: RGB) -> Tensor:
    """uint8 (H, W, 3) → float32 (3, H, W) in 0 … 1."""
    return channels_first(rgb).float().div_(255)  # in place: a large picture in floats takes gigabytes


def resize_bilinear(image: Tensor, size: tuple[int, int] | None = None, *, scale: float | None = None) -> Tensor:
    """float32 (C, H, W) → (C, *size), or (C, ⌊H · scale⌋, ⌊W · scale⌋): PyTorch's bilinear without antialiasing.

    `size` and `scale` sample positions that differ by a fraction of a pixel: with `scale`, PyTorch computes the source
    positions from the given scale, not from the ratio of the rounded sizes.
    """
    options: dict[str, Any] = {"mode": "bilinear", "align_corners": False, "recompute_scale_factor": False}
    return interpolate(image[None], size=size, scale_factor=scale, **options)[0]


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


def single(window: Sequence[Tensor]) -> Tensor:
    """Return the only item of a window of size 1."""
    (item,) = window
    return item


def as_clip(window: Sequence[Tensor]) -> Tensor:
    """Frames (C, H, W) → a clip (C, T, H, W)."""
    return torch.stack(list(window), dim=1)
