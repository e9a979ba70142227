"""The 34-layer R(2+1)D, built from torchvision's `VideoResNet`.

Ghadiyaram et al.: Large-scale Weakly-supervised Pre-training for Video Action Recognition, 2019,
https://arxiv.org/abs/1905.00561, converted from Caffe2 by https://github.com/moabitcoin/ig65m-pytorch (release v1.0.0).
"""

from __future__ import annotations

from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet


def r2plus1d_34() -> VideoResNet:
    """Build Caffe2's 34-layer network: (B, 3, T, H, W) → logits (B, 400)."""
    network = VideoResNet(BasicBlock, [Conv2Plus1D] * 4, [3, 4, 6, 3], R2Plus1dStem)
    # torchvision uses the same number of middle channels in both convolutions of a block. Caffe2 computes the number
    # for each convolution, so the second convolution in the first block of these layers differs.
    for layer, channels, mid_channels in (
        (network.layer2, 128, 288),
        (network.layer3, 256, 576),
        (network.layer4, 512, 1152),
    ):
        layer[0].conv2[0] = Conv2Plus1D(channels, channels, mid_channels)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    return network
