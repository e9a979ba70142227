"""RAFT: optical flow, one flow field per pair of consecutive frames.

Teed, Deng: RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, 2020, https://arxiv.org/abs/2003.12039. The
networks and weights are torchvision's `raft_large` and `raft_small`. Weights without `v2` in their name are converted
from the authors' (https://github.com/princeton-vl/RAFT). A checkpoint of the large network in the authors' own format,
with tensor names that begin with `module.`, can be given too. Preprocessing, padding and the number of updates follow
the reference tool, v-iashin/video_features at a2f61b7a4cf0.

    raft   float32 (N − 1, 2, H, W): the displacement of each pixel to the right (x) and down (y) until the next frame,
           in pixels
"""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, unfold
from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights, raft_large, raft_small

from ..errors import MediaError, SettingsError
from ..extraction import Extractor, Resize, Stream, channels_first, identity
from ..media import RGB
from ..settings import Bounds, setting, unknown
from ..weights import Weights, digits_in_name, load_strictly, own_or_published, read
from ._flow import PAIRS, FlowSettings

NETWORKS: dict[str, Any] = {
    "sintel": Raft_Large_Weights.C_T_SKHT_V1,
    "kitti": Raft_Large_Weights.C_T_SKHT_K_V1,
    "things": Raft_Large_Weights.C_T_V1,
    "sintel_v2": Raft_Large_Weights.C_T_SKHT_V2,
    "kitti_v2": Raft_Large_Weights.C_T_SKHT_K_V2,
    "things_v2": Raft_Large_Weights.C_T_V2,
    "raft_small": Raft_Small_Weights.C_T_V1,
    "raft_small_v2": Raft_Small_Weights.C_T_V2,
}
TRAINED_ON = {
    "sintel": "FlyingChairs, FlyingThings3D, then Sintel, KITTI, HD1K and FlyingThings3D together",
    "kitti": "FlyingChairs, FlyingThings3D, then Sintel, KITTI, HD1K and FlyingThings3D together, then KITTI",
    "things": "FlyingChairs, FlyingThings3D",
    "raft_small": "FlyingChairs, FlyingThings3D",
}
DEFAULT_UPDATES = 20
STRIDE = 8  # of the feature maps, in pixels of the frame
# At 128 pixels the coarsest correlation map is 2×2. In a map with a single row or column, bilinear sampling gives NaN.
MIN_PADDED_SIDE = 128
MIN_SIDE = MIN_PADDED_SIDE - STRIDE + 1  # the smallest side that is padded to MIN_PADDED_SIDE

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
# {alias: name} of tensors that the authors' checkpoints contain twice. The tensor is read under the second name.
ALIASES = {
    f"module.cnet.layer{layer}.0.norm3.{tensor}": f"module.cnet.layer{layer}.0.downsample.1.{tensor}"
    for layer in (2, 3)
    for tensor in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
}


@dataclass(frozen=True, kw_only=True)
class Settings(FlowSettings):
    finetuned_on: str = setting(
        "sintel",
        "Published weights: sintel, kitti or things (the authors'); sintel_v2, kitti_v2 or things_v2 (trained by "
        "torchvision); raft_small or raft_small_v2 (the small network, trained on things). With --weights, this only "
        "selects the large or the small network.",
        metavar="NAME",
        names_network=True,
    )
    num_flow_updates: int = setting(
        DEFAULT_UPDATES,
        "Iterative updates of the flow; more updates are slower and more accurate.",
        metavar="N",
        bounds=Bounds(1, 1000, "the authors use at most 32"),
    )


def list_models() -> list[str]:
    return list(NETWORKS)


def published_weights(model_name: str) -> Weights:
    if model_name not in NETWORKS:
        raise SettingsError(unknown("raft finetuned_on", model_name, NETWORKS))
    url = NETWORKS[model_name].url
    return Weights(
        url=url,
        sha256=digits_in_name(url),
        paper="https://arxiv.org/abs/2003.12039",
        trained_on=TRAINED_ON[model_name.removesuffix("_v2")],
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    flow = stream(
        settings.finetuned_on,
        settings.weights,
        settings.resize,
        updates=settings.num_flow_updates,
        dtype=settings.dtype,
    )
    return Extractor(feature="raft", settings=settings, streams=[flow])


def stream(
    name: str,
    own_weights: Path | None,
    resize: Resize,
    *,
    updates: int = DEFAULT_UPDATES,
    dtype: type[np.floating[Any]] = np.float32,
    keeps_padding: bool = False,
    weights_setting: str = "weights",
) -> Stream:
    """Build the stream of flow between consecutive frames, in the size of the resized frames.

    keeps_padding: keep the flow of the padding, so that both sides are multiples of 8
    """

    def row_shape(height: int, width: int) -> tuple[int, ...]:
        check_size(height, width, resize)
        return 2, *resize.size(height, width)

    def preprocess(rgb: RGB) -> Tensor:
        height, width, _ = rgb.shape
        check_size(height, width, resize)
        return channels_first(resize(rgb))

    def crop_padding(flow: Tensor, frame: torch.Size) -> Tensor:
        _, height, width = frame
        left, _, top, _ = padding(height, width)
        return flow[:, :, top : top + height, left : left + width]

    return Stream(
        key="raft",
        model=f"raft {name}",
        weights=own_or_published(own_weights, published_weights(name)),
        weights_setting=weights_setting,
        build_network=partial(_network, name, updates),
        row_shape=row_shape,
        preprocess=preprocess,
        encodes=True,
        window=PAIRS,
        collate=list,
        postprocess=identity if keeps_padding else crop_padding,
        dtype=dtype,
    )


def check_size(height: int, width: int, resize: Resize) -> None:
    """Raise MediaError if frames of this size are too small for RAFT after the resize."""
    resized = resize.size(height, width)
    if min(resized) >= MIN_SIDE:
        return
    min_side_size = MIN_SIDE if resize.smaller else -(-MIN_SIDE * max(height, width) // min(height, width))
    with_side_size = "" if resize.side is None else f" with side_size={resize.side}"
    raise MediaError(
        f"frames of {resized[1]}×{resized[0]} pixels{with_side_size} are too small for raft, which needs at least "
        f"{MIN_SIDE} pixels on each side: set side_size={min_side_size} (--side-size {min_side_size}) or more"
    )


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Return the padding (left, right, top, bottom) in pixels that makes both sides multiples of 8.

    An odd pixel goes to the right or bottom.
    """
    horizontal, vertical = -width % STRIDE, -height % STRIDE
    return horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2


class Raft(nn.Module):
    """torchvision's network, split so that each frame is encoded only once although it is part of two pairs."""

    def __init__(self, parts: Any, updates: int) -> None:
        super().__init__()
        self.parts = parts
        self.updates = updates

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Frames uint8 (B, 3, H, W) → features and context, each (B, D, H'/8, W'/8). H' and W' include the padding."""
        height, width = frames.shape[2:]
        images = pad(frames.float() / 255 * 2 - 1, padding(height, width), mode="replicate")
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


def _network(name: str, updates: int, path: Path) -> nn.Module:
    is_small = name.startswith("raft_small")
    parts = (raft_small if is_small else raft_large)()
    state = read(path)
    if any(key.startswith("module.") for key in state):
        load_strictly(parts, state, path, published_name=published_name, aliases={} if is_small else ALIASES)
    else:
        load_strictly(parts, state, path)
    return Raft(parts, updates)


def published_name(name: str) -> str:
    """Map torchvision's name of a tensor to the tensor's name in the authors' checkpoint."""
    for pattern, replacement in PUBLISHED_NAMES.items():
        name = re.sub(pattern, replacement, name)
    return name
