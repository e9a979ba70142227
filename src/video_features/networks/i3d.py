"""I3D's network, an inflated Inception-v1, with the parameter names of hassony2's conversion.

Carreira, Zisserman: Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset, 2017,
https://arxiv.org/abs/1705.07750. The weights that it loads were converted from DeepMind's by hassony2,
https://github.com/hassony2/kinetics_i3d_pytorch.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, max_pool3d, pad, relu

from ..weights import load_strictly, read
from .heads import PointwiseHead, WithHead


def load(channels: int, path: Path) -> nn.Module:
    """Build the network for clips of 3 (rgb) or 2 (flow) channels from a checkpoint."""
    network = InceptionI3d(channels)
    load_strictly(network, read(path), path)
    return WithHead(network, PointwiseHead(network.conv3d_0c_1x1))


class InceptionI3d(nn.Module):
    """Inflated Inception-v1 with the published parameter names.

    forward: (B, channels, T, 224, 224), T ≥ 10 → features (B, 1024)
    conv3d_0c_1x1: the classifier, which `forward` does not apply
    """

    def __init__(self, channels: int, classes: int = 400) -> None:
        super().__init__()
        self.conv3d_1a_7x7 = Unit3d(channels, 64, 7, stride=2)
        self.conv3d_2b_1x1 = Unit3d(64, 64, 1)
        self.conv3d_2c_3x3 = Unit3d(64, 192, 3)
        self.mixed_3b = Mixed(192, 64, (96, 128), (16, 32), 32)
        self.mixed_3c = Mixed(256, 128, (128, 192), (32, 96), 64)
        self.mixed_4b = Mixed(480, 192, (96, 208), (16, 48), 64)
        self.mixed_4c = Mixed(512, 160, (112, 224), (24, 64), 64)
        self.mixed_4d = Mixed(512, 128, (128, 256), (24, 64), 64)
        self.mixed_4e = Mixed(512, 112, (144, 288), (32, 64), 64)
        self.mixed_4f = Mixed(528, 256, (160, 320), (32, 128), 128)
        self.mixed_5b = Mixed(832, 256, (160, 320), (32, 128), 128)
        self.mixed_5c = Mixed(832, 384, (192, 384), (48, 128), 128)
        self.conv3d_0c_1x1 = nn.Sequential()
        self.conv3d_0c_1x1.add_module("conv3d", nn.Conv3d(1024, classes, 1))

    def forward(self, clip: Tensor) -> Tensor:
        x = max_pool(self.conv3d_1a_7x7(clip), (1, 3, 3), (1, 2, 2))  # (B, 64, T/2, 56, 56)
        x = max_pool(self.conv3d_2c_3x3(self.conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))  # (B, 192, T/2, 28, 28)
        x = max_pool(self.mixed_3c(self.mixed_3b(x)), (3, 3, 3), (2, 2, 2))  # (B, 480, T/4, 14, 14)
        x = self.mixed_4f(self.mixed_4e(self.mixed_4d(self.mixed_4c(self.mixed_4b(x)))))
        x = max_pool(x, (2, 2, 2), (2, 2, 2))  # (B, 832, T/8, 7, 7)
        x = avg_pool3d(self.mixed_5c(self.mixed_5b(x)), (2, 7, 7), stride=1)  # (B, 1024, T/8 - 1, 1, 1)
        return x.mean(dim=(2, 3, 4))


class Unit3d(nn.Module):
    """3D convolution, batch norm and ReLU. The padding is TensorFlow's `SAME` padding of an even input size."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.pads = same_padding((kernel,) * 3, (stride,) * 3)
        self.conv3d = nn.Conv3d(channels_in, channels_out, kernel, stride, bias=False)
        self.batch3d = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.batch3d(self.conv3d(pad(x, self.pads))))


class Mixed(nn.Module):
    """Inception block: four branches on the same input, with their outputs concatenated along the channels."""

    def __init__(self, channels: int, out_0: int, out_1: tuple[int, int], out_2: tuple[int, int], out_3: int) -> None:
        super().__init__()
        self.branch_0 = Unit3d(channels, out_0, 1)
        self.branch_1 = nn.Sequential(Unit3d(channels, out_1[0], 1), Unit3d(*out_1, 3))
        self.branch_2 = nn.Sequential(Unit3d(channels, out_2[0], 1), Unit3d(*out_2, 3))
        self.branch_3 = nn.Sequential(MaxPool3x3(), Unit3d(channels, out_3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch_0(x), self.branch_1(x), self.branch_2(x), self.branch_3(x)], dim=1)


class MaxPool3x3(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return max_pool(x, (3, 3, 3), (1, 1, 1))


Size = tuple[int, int, int]


def max_pool(x: Tensor, kernel: Size, stride: Size) -> Tensor:
    """Max pooling with the zero padding of the convolutions. A partial window at the end is pooled too (ceil mode)."""
    return max_pool3d(pad(x, same_padding(kernel, stride)), kernel, stride, ceil_mode=True)


def same_padding(kernel: Size, stride: Size) -> list[int]:
    """Return the zero padding before and after each axis, last axis first, as `pad` expects it.

    An axis gets kernel − stride zeros in total; an odd zero goes after. TensorFlow's `SAME` also depends on the input
    size, but the network that the weights were published with does not.
    """
    totals = [max(k - s, 0) for k, s in zip(kernel, stride, strict=True)]
    return [zeros for total in reversed(totals) for zeros in (total // 2, total - total // 2)]
