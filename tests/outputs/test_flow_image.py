"""Optical flow as a picture, compared with torchvision's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.utils import _make_colorwheel
from torchvision.utils import flow_to_image as torchvisions

from video_features.outputs.flow_image import WHEEL, flow_to_image

Flow = npt.NDArray[np.float32]


def random_flow(scale: float) -> Flow:
    return np.random.default_rng(0).normal(0, scale, (2, 90, 160)).astype(np.float32)


def ramp() -> Flow:
    """Every whole vector from -40 to 40: the axes, the diagonals, and no flow in the middle."""
    y, x = np.mgrid[-40:41, -40:41].astype(np.float32)
    return np.stack([x, y])


def test_the_wheel_is_torchvisions() -> None:
    assert np.array_equal(WHEEL, _make_colorwheel().numpy())


@pytest.mark.parametrize(
    "flow",
    [random_flow(1e-4), random_flow(1), random_flow(300), ramp(), ramp() * [[[0]], [[1]]], np.zeros((2, 4, 6))],
    ids=["tiny", "usual", "large", "whole", "vertical", "none"],
)
def test_the_picture_is_torchvisions(flow: Flow) -> None:
    ours = flow_to_image(flow).astype(int)
    theirs = torchvisions(torch.from_numpy(flow.astype(np.float32))).permute(1, 2, 0).numpy().astype(int)
    # Measured in 17 million values: 1 in 27000 is one level apart, as arc tangents differ in the last digit. In one,
    # torchvision wrote 255 instead of 0, because -0.00003 is not a uint8.
    wrapped = (theirs == 255) & (ours == 0)
    assert ours.shape == (*flow.shape[1:], 3) and wrapped.mean() < 1e-4
    apart = np.abs(ours - theirs)[~wrapped]
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-3


def test_the_longest_vector_does_not_wrap_around() -> None:
    """Rounding makes this vector longer than 1, and its green less than 0, which a uint8 cannot hold: not 255."""
    flow = np.array([17.846982955932617, -3.0968756675720215], np.float32).reshape(2, 1, 1)
    assert flow_to_image(flow).flatten().tolist() == [255, 0, 105]
