"""RAFT: optical flow, a field for each frame and the next one.

Teed, Deng: RAFT: Recurrent All-Pairs Field Transforms for Optical Flow, 2020, https://arxiv.org/abs/2003.12039. The
networks' parts are torchvision's `raft_large` and `raft_small`, and so are the weights: those without `v2` in their
name are the authors' own (https://github.com/princeton-vl/RAFT), converted. A checkpoint of the large network as the
authors publish it, whose names begin with `module.`, can be given too. Preprocessing, padding and the number of updates
are those of the reference tool, v-iashin/video_features at a2f61b7a4cf0.

    raft   float32 (N − 1, 2, H, W): how many pixels each one moves to the right and down, until the next frame
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
from ..extraction import Extractor, Resize, Stream, channels_first
from ..extraction.streams import identity
from ..media import RGB
from ..settings import check_positive, setting, unknown
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
UPDATES = 20
REDUCED = 8  # how many times smaller than the frames the maps are
LEAST_PADDED = 128  # the coarsest correlations are two by two then; of one row, sampling between rows gives NaN
LEAST = LEAST_PADDED - REDUCED + 1  # is padded to that

# torchvision's names of the parts → the authors', replaced one after another. In torchvision's `convnormrelu`, 0 is a
# convolution and 1 its norm.
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
# Tensors that the authors' checkpoints hold twice, and under which name they are read.
ALIASES = {
    f"module.cnet.layer{layer}.0.norm3.{tensor}": f"module.cnet.layer{layer}.0.downsample.1.{tensor}"
    for layer in (2, 3)
    for tensor in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
}


@dataclass(frozen=True, kw_only=True)
class Settings(FlowSettings):
    finetuned_on: str = setting(
        "sintel",
        "sintel, kitti or things: the authors' weights; sintel_v2, kitti_v2 or things_v2: torchvision's own training; "
        "raft_small or raft_small_v2: the small network, on things; with weights, only whether the network is small",
        metavar="NAME",
        names_network=True,
    )
    num_flow_updates: int = setting(UPDATES, "updates of the flow: time grows with them, the error falls", metavar="N")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "num_flow_updates")


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
    return Extractor(feature="raft", settings=settings, streams=[flow], previews=settings.preview)


def stream(
    name: str,
    own_weights: Path | None,
    resize: Resize,
    *,
    updates: int = UPDATES,
    dtype: type[np.floating[Any]] = np.float32,
    keeps_padding: bool = False,
    weights_setting: str = "weights",
) -> Stream:
    """Flow between neighbours, of the size of the resized frames, or with `keeps_padding` as the network sees them."""

    def row_shape(height: int, width: int) -> tuple[int, ...]:
        check_size(height, width, resize)
        return 2, *resize.size(height, width)

    def preprocess(rgb: RGB) -> Tensor:
        height, width, _ = rgb.shape
        check_size(height, width, resize)
        return channels_first(resize(rgb))

    def without_padding(flow: Tensor, frame: torch.Size) -> Tensor:
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
        postprocess=identity if keeps_padding else without_padding,
        dtype=dtype,
    )


def check_size(height: int, width: int, resize: Resize) -> None:
    """Raise MediaError where pictures of that size are too small once they are resized."""
    resized = resize.size(height, width)
    if min(resized) >= LEAST:
        return
    enough = LEAST if resize.smaller else -(-LEAST * max(height, width) // min(height, width))
    by = "" if resize.side is None else f" with side_size={resize.side}"
    raise MediaError(
        f"frames of {resized[1]}×{resized[0]} pixels{by} are too small for raft, which needs {LEAST} on each side: "
        f"side_size={enough} (--side-size {enough}) would do"
    )


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels to the left, right, top and bottom that make both sides multiples of 8; the odd one is after."""
    across, down = -width % REDUCED, -height % REDUCED
    return across // 2, across - across // 2, down // 2, down - down // 2


class Raft(nn.Module):
    """torchvision's network, by whose parts a frame is encoded once although it is in two pairs."""

    def __init__(self, parts: Any, updates: int) -> None:
        super().__init__()
        self.parts = parts
        self.updates = updates

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames uint8 (B, 3, H, W) → what they look like, and the context, each (B, D, H'/8, W'/8)"""
        height, width = frames.shape[2:]
        images = pad(frames.float() / 255 * 2 - 1, padding(height, width), mode="replicate")
        return self.parts.feature_encoder(images), self.parts.context_encoder(images)

    def forward(self, pair: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, None]:
        """Both frames' codes → flow (B, 2, H', W') in pixels, and no logits"""
        (first, context), (second, _) = pair
        update, correlations = self.parts.update_block, copy(self.parts.corr_block)  # which keeps the pair's, large
        correlations.build_pyramid(first, second)
        hidden, context = context[:, : update.hidden_state_size].tanh(), context[:, update.hidden_state_size :].relu()
        origin = target = pixels(first)  # (B, 2, H'/8, W'/8), of the maps
        for _ in range(self.updates):
            hidden, change = update(hidden, context, correlations.index_pyramid(target), target - origin)
            target = target + change
        return self._upsampled(target - origin, hidden), None

    def _upsampled(self, flow: Tensor, hidden: Tensor) -> Tensor:
        """(B, 2, h, w) → (B, 2, 8 h, 8 w): each pixel a mean of the nine around it, weighted as the network says"""
        if self.parts.mask_predictor is None:
            return interpolate(REDUCED * flow, scale_factor=REDUCED, mode="bilinear", align_corners=True)
        batch, _, height, width = flow.shape
        weights = self.parts.mask_predictor(hidden).view(batch, 1, 9, REDUCED, REDUCED, height, width).softmax(dim=2)
        around = unfold(REDUCED * flow, 3, padding=1).view(batch, 2, 9, 1, 1, height, width)
        fine: Tensor = (weights * around).sum(dim=2)  # (B, 2, 8, 8, h, w)
        return fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, REDUCED * height, REDUCED * width)


def pixels(maps: Tensor) -> Tensor:
    """The coordinates, x then y, of every pixel of maps (B, D, h, w): float32 (B, 2, h, w)"""
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
    """torchvision's name of a tensor → its name in the authors' checkpoint."""
    for ours, theirs in PUBLISHED_NAMES.items():
        name = re.sub(ours, theirs, name)
    return name
