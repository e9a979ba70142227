"""PWC-Net: optical flow, one flow field per pair of consecutive frames.

The network and its weights (trained on Sintel) were converted by sniklaus (https://github.com/sniklaus/pytorch-pwc) and
are published by the reference tool, v-iashin/video_features at bd827df5e543. This implementation only uses PyTorch
operations, so it runs on any device.

    pwc   float32 (N − 1, 2, H, W): the displacement of each pixel to the right (x) and down (y) until the next frame,
          in pixels
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import SettingsError
from ..extraction import Card, Extractor, Paper, Resize, Stream, channels_first, resize_bilinear
from ..media import RGB
from ..networks.sizes import PWC_FLOW_SCALE, pwc_side
from ..settings import unknown
from ..weights import Weights, own_or_published
from ._flow import FLOW_ROW, PAIRS, FlowSettings

if TYPE_CHECKING:
    from torch import nn

PAPER = Paper(
    key="sun2018pwcnet",
    title="PWC-Net: CNNs for Optical Flow Using Pyramid, Warping, and Cost Volume",
    authors="Sun, Deqing and Yang, Xiaodong and Liu, Ming-Yu and Kautz, Jan",
    venue="Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)",
    year=2018,
    url="https://arxiv.org/abs/1709.02371",
)
IMPLEMENTATION = Paper(
    key="niklaus2018pwc",
    title="A Reimplementation of PWC-Net Using PyTorch",
    authors="Niklaus, Simon",
    year=2018,
    url="https://github.com/sniklaus/pytorch-pwc",
)
CARD = Card(row=FLOW_ROW, papers=(PAPER, IMPLEMENTATION))
URL = (  # an earlier commit, because the reference tool has since removed the file
    "https://github.com/v-iashin/video_features/raw/bd827df5e543ef3270946bcf63e47e18abcdd9ab/"
    "models/pwc/checkpoints/pwc_net_sintel.pt"
)
NETWORK = "pwc_net_sintel"


@dataclass(frozen=True, kw_only=True)
class Settings(FlowSettings):
    pass


def list_models() -> list[str]:
    return [NETWORK]


def published_weights(model_name: str) -> Weights:
    if model_name not in list_models():
        raise SettingsError(unknown("network of pwc", model_name, list_models()))
    return Weights(
        url=URL,
        git_blob="003fc9d54635881f84758edb5c3fea5918e54f83",
        licence="cc-by-nc-sa-4.0",  # of the authors' release, https://github.com/NVlabs/PWC-Net
        paper=PAPER.url,
        trained_on="Sintel",
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    flow = stream(settings.weights, settings.resize, dtype=settings.dtype)
    return Extractor(feature="pwc", settings=settings, streams=[flow])


def stream(
    own_weights: Path | None,
    resize: Resize,
    *,
    dtype: type[np.floating[Any]] = np.float32,
    weights_setting: str = "weights",
) -> Stream:
    """Build the stream of flow between consecutive frames, in the size of the resized frames."""

    def preprocess(rgb: RGB) -> npt.NDArray[np.uint8]:
        """Resize (PIL's bilinear) as `side_size` says; for i3d, the smaller side to 256.

        uint8 (H, W, 3) → uint8 (3, h, w). The network resizes both sides up to multiples of 64 and scales to 0 … 1.
        """
        return channels_first(resize(rgb))

    return Stream(
        key="pwc",
        model=NETWORK,
        weights=own_or_published(own_weights, published_weights(NETWORK)),
        weights_setting=weights_setting,
        build_network=_network,
        row_shape=lambda height, width: (2, *resize.size(height, width)),
        preprocess=preprocess,
        encodes=True,
        window=PAIRS,
        collate=list,
        postprocess=in_pixels,
        dtype=dtype,
    )


def in_pixels(flow: npt.NDArray[np.float32], frame: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Resize and scale the network's output (B, 2, h, w) → flow (B, 2, H, W) in pixels of the frame.

    frame: the shape of the frame, (3, H, W)
    """
    _, height, width = frame
    scale = np.array([width / pwc_side(width), height / pwc_side(height)], np.float32)
    resized = resize_bilinear(np.float32(PWC_FLOW_SCALE) * flow, (height, width))
    resized *= scale[:, None, None]
    return resized


def _network(path: Path) -> nn.Module:
    from ..networks.pwc import load

    return load(path)
