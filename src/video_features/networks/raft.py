"""RAFT: torchvision's networks, split into the encoding of a frame and the flow between two encodings.

Teed, Deng: RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, 2020, https://arxiv.org/abs/2003.12039. A
checkpoint has torchvision's tensor names or those of the authors (https://github.com/princeton-vl/RAFT), which begin
with `module.`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, unfold
from torchvision.models.optical_flow import raft_large, raft_small

from ..weights import Others, load_strictly, read
from .sizes import RAFT_STRIDE as STRIDE
from .sizes import raft_padding

# Patterns of torchvision's names → the authors' names, replaced in this order. In torchvision's `convnormrelu`, layer 0
# is a convolution and layer 1 is its norm.
PUBLISHED_NAMES = {
    r"feature_encoder\.": "module.fnet.",
    r"context_encoder\.": "module.cnet.",
    r"convnormrelu\.0\.": "conv1.",
    r"convnormrelu\.1\.": "norm1.",
    r"convnormrelu(\d)\.0\.": r"conv\1.",
    r"convnormrelu(\d)\.1\.": r"norm\1.",
    r"net\.conv\.": "net.conv2.",
    r"update_block\.motion_encoder\.": "module.update_block.encoder.",
    r"convcorr(\d)\.0\.": r"convc\1.",
    r"convflow(\d)\.0\.": r"convf\1.",
    r"encoder\.conv\.0\.": "encoder.conv.",
    r"update_block\.recurrent_block\.convgru(\d)\.conv([zrq])": r"module.update_block.gru.conv\2\1",
    r"^update_block\.flow_head\.": "module.update_block.flow_head.",
    r"mask_predictor\.convrelu\.0\.": "module.update_block.mask.0.",
    r"mask_predictor\.conv\.": "module.update_block.mask.2.",
}
# {alias: name} of tensors that the authors' checkpoints of the large network contain twice. The tensor is read under
# the second name.
ALIASES = {
    f"module.cnet.layer{layer}.0.norm3.{tensor}": f"module.cnet.layer{layer}.0.downsample.1.{tensor}"
    for layer in (2, 3)
    for tensor in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
}


class Raft(nn.Module):
    """torchvision's network, split so that each frame is encoded only once although it is part of two pairs."""

    def __init__(self, parts: Any, updates: int) -> None:
        super().__init__()
        self.parts = parts
        self.updates = updates

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames uint8 (B, 3, H, W) → features and context, each (B, D, H'/8, W'/8). H' and W' include the padding."""
        height, width = frames.shape[2:]
        images = pad(frames.float() / 255 * 2 - 1, raft_padding(height, width), mode="replicate")
        return self.parts.feature_encoder(images), self.parts.context_encoder(images)

    def forward(self, pair: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, None]:
        """Encodings of both frames → flow (B, 2, H', W') in pixels, and None instead of logits."""
        (first, context), (second, _) = pair
        # The correlation block keeps the pair's correlation pyramid, which is large. A copy is freed after each pair.
        update, correlations = self.parts.update_block, copy(self.parts.corr_block)
        correlations.build_pyramid(first, second)
        hidden, context = context[:, : update.hidden_state_size].tanh(), context[:, update.hidden_state_size :].relu()
        origin = target = coords_grid(first)  # (B, 2, H'/8, W'/8), in pixels of the feature maps
        for _ in range(self.updates):
            hidden, delta_flow = update(hidden, context, correlations.index_pyramid(target), target - origin)
            target = target + delta_flow
        return self._upsampled(target - origin, hidden), None

    def _upsampled(self, flow: Tensor, hidden: Tensor) -> Tensor:
        """Upsample flow (B, 2, h, w) → (B, 2, 8 h, 8 w).

        Each fine pixel is a convex combination of its 3×3 coarse neighbours, with weights that the network predicts.
        The small network does not predict weights and upsamples bilinearly.
        """
        if self.parts.mask_predictor is None:
            return interpolate(STRIDE * flow, scale_factor=STRIDE, mode="bilinear", align_corners=True)
        batch, _, height, width = flow.shape
        weights = self.parts.mask_predictor(hidden).view(batch, 1, 9, STRIDE, STRIDE, height, width).softmax(dim=2)
        neighbours = unfold(STRIDE * flow, 3, padding=1).view(batch, 2, 9, 1, 1, height, width)
        upsampled: Tensor = (weights * neighbours).sum(dim=2)  # (B, 2, 8, 8, h, w)
        return upsampled.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, STRIDE * height, STRIDE * width)


def coords_grid(maps: Tensor) -> Tensor:
    """Return the coordinates (x, y) of each pixel of the maps (B, D, h, w): float32 (B, 2, h, w)."""
    batch, _, height, width = maps.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=maps.device), torch.arange(width, device=maps.device), indexing="ij"
    )
    return torch.stack([x, y]).float().repeat(batch, 1, 1, 1)


def load(path: Path, *, is_small: bool, updates: int, others: Mapping[str, bool]) -> nn.Module:
    """Build the small or the large network from a checkpoint.

    updates: iterative updates of the flow
    others: {finetuned_on: whether this is the small network}, to say which network a checkpoint fits instead
    """
    parts, state = _builder(is_small)(), read(path)
    family = Others("finetuned_on", {name: _builder(other) for name, other in others.items()})
    if any(key.startswith("module.") for key in state):
        load_strictly(parts, state, path, published_name=published_name, aliases=ALIASES, others=family)
    else:
        load_strictly(parts, state, path, others=family)
    return Raft(parts, updates)


def _builder(is_small: bool) -> Callable[[], Any]:
    build: Callable[[], Any] = raft_small if is_small else raft_large
    return build


def published_name(name: str) -> str:
    """Map torchvision's name of a tensor to the tensor's name in the authors' checkpoint."""
    for pattern, replacement in PUBLISHED_NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name
