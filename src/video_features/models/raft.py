"""RAFT: optical flow, one flow field per pair of consecutive frames.

The networks and weights are torchvision's `raft_large` and `raft_small`. Weights without `v2` in their name are
converted from the authors' (https://github.com/princeton-vl/RAFT). A checkpoint of the large network in the authors'
own format, with tensor names that begin with `module.`, can be given too. Preprocessing, padding and the number of
updates follow the reference tool, v-iashin/video_features at a2f61b7a4cf0.

    raft   float32 (N − 1, 2, H, W): the displacement of each pixel to the right (x) and down (y) until the next frame,
           in pixels
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import MediaError, SettingsError
from ..extraction import Card, Extractor, Paper, Resize, Stream, channels_first, identity
from ..media import RGB
from ..networks.sizes import RAFT_STRIDE, raft_padding
from ..settings import Bounds, setting, unknown
from ..weights import Weights, digits_in_name, own_or_published
from ._flow import FLOW_ROW, PAIRS, FlowSettings

if TYPE_CHECKING:
    from torch import nn

PAPER = Paper(
    key="teed2020raft",
    title="RAFT: Recurrent All-Pairs Field Transforms for Optical Flow",
    authors="Teed, Zachary and Deng, Jia",
    venue="Proceedings of the European Conference on Computer Vision (ECCV)",
    year=2020,
    url="https://arxiv.org/abs/2003.12039",
)
CARD = Card(row=FLOW_ROW, papers=(PAPER,))
PYTORCH = "https://download.pytorch.org/models/"
NETWORKS = {  # {name: URL of its weights}
    "sintel": f"{PYTORCH}raft_large_C_T_SKHT_V1-0b8c9e55.pth",
    "kitti": f"{PYTORCH}raft_large_C_T_SKHT_K_V1-4a6a5039.pth",
    "things": f"{PYTORCH}raft_large_C_T_V1-22a6c225.pth",
    "sintel_v2": f"{PYTORCH}raft_large_C_T_SKHT_V2-ff5fadd5.pth",
    "kitti_v2": f"{PYTORCH}raft_large_C_T_SKHT_K_V2-b5c70766.pth",
    "things_v2": f"{PYTORCH}raft_large_C_T_V2-1bb1363a.pth",
    "raft_small": f"{PYTORCH}raft_small_C_T_V1-ad48884c.pth",
    "raft_small_v2": f"{PYTORCH}raft_small_C_T_V2-01064c6d.pth",
}
TRAINED_ON = {
    "sintel": "FlyingChairs, FlyingThings3D, then Sintel, KITTI, HD1K and FlyingThings3D together",
    "kitti": "FlyingChairs, FlyingThings3D, then Sintel, KITTI, HD1K and FlyingThings3D together, then KITTI",
    "things": "FlyingChairs, FlyingThings3D",
    "raft_small": "FlyingChairs, FlyingThings3D",
}
DEFAULT_UPDATES = 20
# At 128 pixels the coarsest correlation map is 2×2. In a map with a single row or column, bilinear sampling gives NaN.
MIN_PADDED_SIDE = 128
MIN_SIDE = MIN_PADDED_SIDE - RAFT_STRIDE + 1  # the smallest side that is padded to MIN_PADDED_SIDE


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
    return Weights(
        url=NETWORKS[model_name],
        sha256=digits_in_name(NETWORKS[model_name]),
        paper=PAPER.url,
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

    def preprocess(rgb: RGB) -> npt.NDArray[np.uint8]:
        """Resize (PIL's bilinear) as `side_size` says; for i3d, the smaller side to 256.

        uint8 (H, W, 3) → uint8 (3, h, w). The network pads both sides to multiples of 8 and scales levels to −1 … 1.
        """
        height, width, _ = rgb.shape
        check_size(height, width, resize)
        return channels_first(resize(rgb))

    def crop_padding(flow: npt.NDArray[np.float32], frame: tuple[int, ...]) -> npt.NDArray[np.float32]:
        _, height, width = frame
        left, _, top, _ = raft_padding(height, width)
        return flow[:, :, top : top + height, left : left + width]

    return Stream(
        key="raft",
        model=f"raft {name}",
        weights=own_or_published(own_weights, published_weights(name)),
        weights_setting=weights_setting,
        build_network=partial(_network, name, updates, weights_setting == "weights"),
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


def _network(name: str, updates: int, has_choice: bool, path: Path) -> nn.Module:
    from ..networks.raft import load

    others = {"sintel": False, "raft_small": True} if has_choice else {}
    return load(path, is_small=name.startswith("raft_small"), updates=updates, others=others)
