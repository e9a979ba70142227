"""From a window of frames to a network's input, each step pinned to the convention that it follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import PIL.Image
from torch import Tensor

from .media import RGB


def of_one_frame(transform: Callable[[PIL.Image.Image], Tensor]) -> Callable[[Sequence[RGB]], Tensor]:
    """A library's transform of a PIL image, for windows of a single frame: uint8 (H, W, 3) → float32 (3, h, w)."""

    def preprocess(window: Sequence[RGB]) -> Tensor:
        (rgb,) = window
        return transform(PIL.Image.fromarray(rgb))

    return preprocess
