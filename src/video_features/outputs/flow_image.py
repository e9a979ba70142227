"""The usual colour coding of optical flow, that of the Middlebury benchmark.

Baker et al., A Database and Evaluation Methodology for Optical Flow, 2007: https://vision.middlebury.edu/flow/. The
numbers are those of torchvision's `flow_to_image`, without PyTorch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..media import RGB

# From each colour of the wheel to the next one, and in how many steps: the eye sees more shades of some.
STEPS = (
    ((255, 0, 0), 15),
    ((255, 255, 0), 6),
    ((0, 255, 0), 4),
    ((0, 255, 255), 11),
    ((0, 0, 255), 13),
    ((255, 0, 255), 6),
)


def _wheel() -> npt.NDArray[np.float32]:
    """Return the colours around the wheel, float32 (55, 3) from 0 to 255."""
    parts = []
    for index, (start, steps) in enumerate(STEPS):
        end = STEPS[(index + 1) % len(STEPS)][0]
        rise = np.floor(255 * np.arange(steps, dtype=np.float32) / steps)[:, None]
        parts.append(start + np.sign(np.subtract(end, start)) * rise)
    return np.concatenate(parts).astype(np.float32)


WHEEL = _wheel()


def flow_to_image(flow: npt.NDArray[np.floating]) -> RGB:
    """Return optical flow (2, H, W) as a picture, uint8 (H, W, 3).

    Hue shows the direction. Saturation shows the length, relative to the longest vector: no flow is white.
    """
    flow = flow.astype(np.float32)
    flow = flow / (_lengths(flow).max() + np.finfo(np.float32).eps)
    x, y = flow
    place = (np.arctan2(-y, -x) / np.float32(np.pi) + 1) / 2 * (len(WHEEL) - 1)  # on the wheel
    before = np.floor(place).astype(np.intp)
    share = (place - before)[..., None].astype(np.float32)
    colour = (1 - share) * (WHEEL[before] / 255) + share * (WHEEL[(before + 1) % len(WHEEL)] / 255)
    colour = 1 - _lengths(flow)[..., None] * (1 - colour)
    # Rounding may make the longest vector longer than 1, and a colour less than 0.
    image: RGB = np.floor(255 * colour).clip(0, 255).astype(np.uint8)
    return image


def _lengths(flow: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths: npt.NDArray[np.float32] = np.sqrt(np.square(flow).sum(axis=0))
    return lengths
