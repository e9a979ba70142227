"""From a frame to what a network takes, each step pinned to the convention that it follows; from frames to clips."""

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
    """A library's transform of a PIL image, for frames: uint8 (H, W, 3) → float32 (3, h, w)."""
    return lambda rgb: transform(PIL.Image.fromarray(rgb))


def channels_first(rgb: RGB) -> Tensor:
    """uint8 (H, W, 3) → uint8 (3, H, W)."""
    return torch.from_numpy(np.require(rgb, requirements=["C", "W"])).permute(2, 0, 1)


def unit_range(rgb: RGB) -> Tensor:
    """uint8 (H, W, 3) → float32 (3, H, W) in 0 … 1."""
    return channels_first(rgb).float().div(255)


def resize_bilinear(image: Tensor, size: tuple[int, int] | None = None, *, scale: float | None = None) -> Tensor:
    """float32 (C, H, W) → (C, *size), or (C, ⌊H · scale⌋, ⌊W · scale⌋): PyTorch's bilinear without antialiasing.

    The two differ by a fraction of a pixel: with `scale` it also decides which source pixels are met, as given.
    """
    how: dict[str, Any] = {"mode": "bilinear", "align_corners": False, "recompute_scale_factor": False}
    return interpolate(image[None], size=size, scale_factor=scale, **how)[0]


@dataclass(frozen=True)
class Resize:
    """Resizes a picture by PIL's bilinear, which antialiases; the ratio of its sides stays, but for rounding down.

    side: pixels of the smaller side, or of the larger one; None: pictures stay as they are
    """

    side: int | None
    smaller: bool = True

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that a picture of this size gets."""
        if self.side is None:
            return height, width
        known = min(height, width) if self.smaller else max(height, width)
        return max(1, self.side * height // known), max(1, self.side * width // known)

    def __call__(self, rgb: RGB) -> RGB:
        """uint8 (H, W, 3) → uint8 (h, w, 3)"""
        height, width = self.size(*rgb.shape[:2])
        if (height, width) == rgb.shape[:2]:
            return rgb
        return np.asarray(PIL.Image.fromarray(rgb).resize((width, height), PIL.Image.Resampling.BILINEAR))


def single(window: Sequence[Tensor]) -> Tensor:
    """A window of one, as it is."""
    (one,) = window
    return one


def as_clip(window: Sequence[Tensor]) -> Tensor:
    """Frames (C, H, W) → a clip (C, T, H, W)."""
    return torch.stack(list(window), dim=1)
