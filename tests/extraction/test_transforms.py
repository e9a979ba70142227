"""Resizing in NumPy compared with PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.functional import center_crop

from video_features.extraction import resize_bilinear

ROUNDING = 3e-7  # of the largest value; float32 has 1.2e-7 between 1 and the next number


SHAPES = [(272, 640), (31, 47), (1080, 1919), (1, 1), (3, 400), (240, 171)]
SIZES = [(128, 171), (224, 224), (301, 999), (1, 1)]
SCALES = [0.37, 224 / 272, 1.6, 1.001]
CASES = [
    *((shape, size, None) for shape in SHAPES for size in SIZES),
    *((shape, None, scale) for shape in SHAPES for scale in SCALES if min(shape) * scale >= 1),
]


@pytest.mark.parametrize(("shape", "size", "scale"), CASES)
def test_pytorchs_bilinear(shape: tuple[int, int], size: tuple[int, int] | None, scale: float | None) -> None:
    levels = np.random.default_rng(shape[1]).integers(0, 256, (2, *shape, 3), np.uint8)
    expected = interpolate(
        torch.from_numpy(levels).permute(0, 3, 1, 2).float(),
        size=size,
        scale_factor=scale,
        mode="bilinear",
        align_corners=False,
        recompute_scale_factor=False,
    )
    found = resize_bilinear(levels.transpose(0, 3, 1, 2), size, scale=scale)
    assert found.shape == expected.shape and found.dtype == np.float32 and found.flags.c_contiguous
    assert np.abs(found - expected.numpy()).max() <= ROUNDING * 255
    crop = tuple(max(1, side - side // 3) for side in found.shape[2:])
    centre = resize_bilinear(levels.transpose(0, 3, 1, 2), size, scale=scale, crop=(crop[0], crop[1]))
    assert np.array_equal(centre, center_crop(torch.from_numpy(found), list(crop)).numpy())
