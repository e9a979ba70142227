"""PWC-Net, with the parameter names of sniklaus's conversion.

Sun et al.: PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume, 2018,
https://arxiv.org/abs/1709.02371. The network follows https://github.com/sniklaus/pytorch-pwc, but only uses PyTorch
operations, so it runs on any device.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate, leaky_relu, pad

from ..weights import load_strictly, read
from .sizes import PWC_FLOW_SCALE as FLOW_SCALE
from .sizes import pwc_side

SEARCH_RADIUS = 4  # of the correlation window, in pixels of a level
NEIGHBOURS = (2 * SEARCH_RADIUS + 1) ** 2
NEGATIVE_SLOPE = 0.1  # of the leaky ReLUs
CHANNELS = {1: 16, 2: 32, 3: 64, 4: 96, 5: 128, 6: 196}  # by pyramid level; each level halves the size of the maps
GROWTH = (128, 128, 96, 64, 32)  # channels that each layer of a decoder adds

Pyramid = tuple[Tensor, ...]


class PwcNet(nn.Module):
    """PWC-Net with the published parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.moduleExtractor = FeaturePyramid()
        self.moduleTwo = Decoder(2)
        self.moduleThr = Decoder(3)
        self.moduleFou = Decoder(4)
        self.moduleFiv = Decoder(5)
        self.moduleSix = Decoder(6)
        self.moduleRefiner = Refiner()

    def encode(self, frames: Tensor) -> Pyramid:
        """Frames uint8 (B, 3, H, W), RGB → feature pyramid of the frames resized to (H', W')."""
        size = [pwc_side(side) for side in frames.shape[2:]]
        bgr = frames.flip(1).float() / 255
        pyramid: Pyramid = self.moduleExtractor(interpolate(bgr, size, mode="bilinear", align_corners=False))
        return pyramid

    def forward(self, pair: tuple[Pyramid, Pyramid]) -> tuple[Tensor, None]:
        """Pyramids of both frames → flow (B, 2, H'/4, W'/4), and None instead of logits.

        The flow is in pixels of (H', W'), divided by 20.
        """
        decoders = (self.moduleSix, self.moduleFiv, self.moduleFou, self.moduleThr, self.moduleTwo)
        flow = features = None
        for first, second, decoder in zip(*map(reversed, pair), decoders, strict=True):
            flow, features = decoder(first, second, flow, features)
        return flow + self.moduleRefiner(features), None


class FeaturePyramid(nn.Module):
    """Images (B, 3, H', W') → levels 2 to 6; level k has the shape (B, CHANNELS[k], H' / 2^k, W' / 2^k)."""

    def __init__(self) -> None:
        super().__init__()
        self.moduleOne = _level(3, CHANNELS[1])
        self.moduleTwo = _level(CHANNELS[1], CHANNELS[2])
        self.moduleThr = _level(CHANNELS[2], CHANNELS[3])
        self.moduleFou = _level(CHANNELS[3], CHANNELS[4])
        self.moduleFiv = _level(CHANNELS[4], CHANNELS[5])
        self.moduleSix = _level(CHANNELS[5], CHANNELS[6])

    def forward(self, images: Tensor) -> Pyramid:
        two = self.moduleTwo(self.moduleOne(images))
        three = self.moduleThr(two)
        four = self.moduleFou(three)
        five = self.moduleFiv(four)
        return two, three, four, five, self.moduleSix(five)


class Decoder(nn.Module):
    """Computes the flow of a level from the level's maps and the flow of the level above, which has half the size."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.warp_scale = FLOW_SCALE / 2**level  # network output → pixels of this level
        channels = decoder_channels(level)
        if level < 6:
            above = decoder_channels(level + 1) + sum(GROWTH)
            self.moduleUpflow = nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1)
            self.moduleUpfeat = nn.ConvTranspose2d(above, 2, 4, stride=2, padding=1)
        self.moduleOne = _layer(channels, GROWTH[0])
        self.moduleTwo = _layer(channels + sum(GROWTH[:1]), GROWTH[1])
        self.moduleThr = _layer(channels + sum(GROWTH[:2]), GROWTH[2])
        self.moduleFou = _layer(channels + sum(GROWTH[:3]), GROWTH[3])
        self.moduleFiv = _layer(channels + sum(GROWTH[:4]), GROWTH[4])
        self.moduleSix = nn.Sequential(nn.Conv2d(channels + sum(GROWTH), 2, 3, padding=1))

    def forward(
        self, first: Tensor, second: Tensor, flow: Tensor | None, features: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Decode one level.

        first, second: maps (B, D, h, w) of both frames
        flow, features: output of the level above, with flow (B, 2, h/2, w/2); None at the top level
        Returns the flow (B, 2, h, w) and the features of this level.
        """
        if flow is None:
            x = leaky_relu(correlation(first, second), NEGATIVE_SLOPE)
        else:
            flow, features = self.moduleUpflow(flow), self.moduleUpfeat(features)
            cost_volume = leaky_relu(correlation(first, warp(second, flow * self.warp_scale)), NEGATIVE_SLOPE)
            x = torch.cat([cost_volume, first, flow, features], dim=1)
        for layer in (self.moduleOne, self.moduleTwo, self.moduleThr, self.moduleFou, self.moduleFiv):
            x = torch.cat([layer(x), x], dim=1)
        return self.moduleSix(x), x


class Refiner(nn.Module):
    """Computes a correction of the final flow from a wide context, with dilated convolutions."""

    def __init__(self) -> None:
        super().__init__()
        channels = (decoder_channels(2) + sum(GROWTH), 128, 128, 128, 96, 64, 32)
        dilations = (1, 2, 4, 8, 16, 1)
        layers = [
            layer
            for before, after, dilation in zip(channels, channels[1:], dilations, strict=False)
            for layer in _layer(before, after, dilation=dilation)
        ]
        self.moduleMain = nn.Sequential(*layers, nn.Conv2d(channels[-1], 2, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        correction: Tensor = self.moduleMain(features)
        return correction


def decoder_channels(level: int) -> int:
    """Return the number of input channels of a decoder.

    The top level only has correlations. All other levels also have the first frame's map, and the upsampled flow and
    features (2 channels each) of the level above.
    """
    return NEIGHBOURS if level == 6 else NEIGHBOURS + CHANNELS[level] + 2 + 2


def _level(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        *_layer(channels_in, channels_out, stride=2),
        *_layer(channels_out, channels_out),
        *_layer(channels_out, channels_out),
    )


def _layer(channels_in: int, channels_out: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=dilation, dilation=dilation),
        nn.LeakyReLU(NEGATIVE_SLOPE),
    )


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Compute the cost volume of two maps (B, D, h, w) → (B, 81, h, w).

    Each channel is the mean over D of the product of `first` and a shifted `second`. Shifts reach up to 4 pixels on
    both axes, in row-major order. Pixels outside `second` are zero.
    """
    height, width = first.shape[2:]
    padded = pad(second, (SEARCH_RADIUS,) * 4)
    return torch.stack(
        [
            (first * padded[:, :, top : top + height, left : left + width]).mean(dim=1)
            for top in range(2 * SEARCH_RADIUS + 1)
            for left in range(2 * SEARCH_RADIUS + 1)
        ],
        dim=1,
    )


def warp(maps: Tensor, flow: Tensor) -> Tensor:
    """Warp maps (B, D, h, w) with flow (B, 2, h, w): each pixel is sampled at the position that its flow points to.

    Pixels whose position is not fully inside the maps are zero. The grid is built for `align_corners=True` but sampled
    with `align_corners=False`, because the network was trained this way.
    """
    batch, _, height, width = maps.shape
    x = torch.linspace(-1, 1, width, device=maps.device).view(1, 1, width).expand(batch, height, width)
    y = torch.linspace(-1, 1, height, device=maps.device).view(1, height, 1).expand(batch, height, width)
    grid = torch.stack([x + flow[:, 0] / ((width - 1) / 2), y + flow[:, 1] / ((height - 1) / 2)], dim=3)
    sampled = grid_sample(torch.cat([maps, torch.ones_like(maps[:, :1])], dim=1), grid, align_corners=False)
    return sampled[:, :-1] * (sampled[:, -1:] > 0.999)


def load(path: Path) -> nn.Module:
    """Build the network from a checkpoint."""
    network = PwcNet()
    load_strictly(network, read(path), path)
    return network
