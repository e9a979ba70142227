"""I3D: clip features of Kinetics-400 networks, one vector per stack of frames and stream.

The network is an inflated Inception-v1. The weights were converted from DeepMind's by hassony2
(https://github.com/hassony2/kinetics_i3d_pytorch) and are published by the reference tool, v-iashin/video_features at
a2f61b7a4cf0, whose windows and preprocessing this module follows.

    rgb    float32 (N, 1024): the last feature map, averaged over space and then over time
    flow   float32 (N, 1024): the same from a second network, whose input is the optical flow of RAFT or PWC-Net,
           quantised to 8 bits

A stack has one frame more than `stack_size`, so that there are `stack_size` flow fields between the frames. The rgb
stream ignores the last frame.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import SettingsError
from ..extraction import Card, Extractor, Paper, Resize, Stream, Window, as_clip, channels_first
from ..media import RGB
from ..settings import ClipSettings, setting, unknown
from ..weights import REFERENCE_FILES, Weights, own_or_published
from . import pwc, raft
from ._kinetics import kinetics_400

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]

PAPER = Paper(
    key="carreira2017quo",
    title="Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset",
    authors="Carreira, Jo{\\~a}o and Zisserman, Andrew",
    venue="Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)",
    year=2017,
    url="https://arxiv.org/abs/1705.07750",
)
CARD = Card(
    row="A stack of frames, once by its colours (`rgb`) and once by its optical flow (`flow`): the last feature map of "
    "the network, averaged over space and then over time.",
    papers=(PAPER, *raft.CARD.papers, *pwc.CARD.papers),
)
RAFT_WEIGHTS = "sintel"
GIT_BLOBS = {
    "i3d_rgb": "2a7c22e23e6c74f50a0166ce61110bccd2ab48bb",
    "i3d_flow": "5d552d2206f41089c428b0d9d8de3b1fccc85b5a",
}
STREAMS = ("rgb", "flow")
FLOW_TYPES = ("raft", "pwc")
MIN_FRAMES = 10  # the last map then has two time steps, the size of the pooling window
CROP_SIZE = 224
RESIZE = Resize(256)
MAX_FLOW_PIXELS = 20  # the flow is clipped to ±20


@dataclass(frozen=True, kw_only=True)
class Settings(ClipSettings):
    weights: dict[str, Path] | None = setting(  # type: ignore[assignment]  # one file per network
        None,
        "Checkpoints to load instead of the published ones, in the authors' own formats, one per network: weights.rgb, "
        "weights.flow, weights.raft, weights.pwc.",
        metavar="FILE",
        parts=(*STREAMS, *FLOW_TYPES),
    )
    streams: str | None = setting(None, "Streams to compute: rgb or flow.  [default: both]", metavar="|".join(STREAMS))
    flow_type: str = setting("raft", "Optical flow for the flow stream: raft or pwc.", metavar="raft|pwc")
    stack_size: int = setting(
        64, f"Frames per clip, at least {MIN_FRAMES}; each clip takes one more frame for its flow.", metavar="N"
    )
    step_size: int = setting(64, "Frames from the start of one clip to the start of the next.", metavar="N")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.streams not in (None, *STREAMS):
            raise SettingsError(f"{unknown('i3d streams', self.streams, STREAMS)}; null (the default) computes both")
        if self.flow_type not in FLOW_TYPES:
            raise SettingsError(unknown("i3d flow_type", self.flow_type, FLOW_TYPES))
        if self.stack_size < MIN_FRAMES:
            raise SettingsError(f"i3d needs a stack_size of at least {MIN_FRAMES}, got {self.stack_size}")
        if self.weights and "" in self.weights and self.streams != "rgb":
            raise SettingsError(
                f"i3d has several networks: give a file for each, weights.rgb=…, weights.flow=…, "
                f"weights.{self.flow_type}=…, instead of weights={self.weights['']}"
            )


def list_models() -> list[str]:
    return [*GIT_BLOBS, *FLOW_TYPES]


def published_weights(model_name: str) -> Weights:
    if model_name == "raft":
        return raft.published_weights(RAFT_WEIGHTS)
    if model_name == "pwc":
        return pwc.published_weights(pwc.NETWORK)
    if model_name not in GIT_BLOBS:
        raise SettingsError(unknown("network of i3d", model_name, list_models()))
    return Weights(
        url=f"{REFERENCE_FILES}i3d/checkpoints/{model_name}.pt",
        git_blob=GIT_BLOBS[model_name],
        paper=PAPER.url,
        trained_on="ImageNet-1k, then Kinetics-400",
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    own_weights = settings.weights or {}
    factories = {"rgb": rgb_stream, "flow": flow_stream}
    keys = STREAMS if settings.streams is None else (settings.streams,)
    labels = kinetics_400() if predict else None
    streams = [factories[key](settings, own_weights, labels) for key in keys]
    extractor = Extractor(feature="i3d", settings=settings, streams=streams)
    used = {stream.weights_setting for stream in extractor.all_streams()}
    for part in sorted(part for part in own_weights if part and f"weights.{part}" not in used):
        log.warning(
            "i3d does not use weights.%s with streams=%s and flow_type=%s",
            *(part, settings.streams or "null", settings.flow_type),
        )
    return extractor


def rgb_stream(settings: Settings, own_weights: Mapping[str, Path], labels: Sequence[str] | None) -> Stream:
    return Stream(
        key="rgb",
        model="i3d_rgb",
        weights=own_or_published(own_weights.get("rgb") or own_weights.get(""), published_weights("i3d_rgb")),
        weights_setting="weights.rgb",
        build_network=partial(_network, 3),
        row_shape=(1024,),
        preprocess=preprocess_rgb,
        window=Window(settings.stack_size + 1, settings.step_size, settings.tail),
        collate=drop_last_frame,
        labels=labels,
    )


def flow_stream(settings: Settings, own_weights: Mapping[str, Path], labels: Sequence[str] | None) -> Stream:
    if settings.flow_type == "raft":  # the flow of the padding is kept: the centre crop is taken from the padded flow
        flow = raft.stream(
            RAFT_WEIGHTS, own_weights.get("raft"), RESIZE, keeps_padding=True, weights_setting="weights.raft"
        )
    else:
        flow = pwc.stream(own_weights.get("pwc"), RESIZE, weights_setting="weights.pwc")
    return Stream(
        key="flow",
        model="i3d_flow",
        weights=own_or_published(own_weights.get("flow"), published_weights("i3d_flow")),
        weights_setting="weights.flow",
        build_network=partial(_network, 2),
        row_shape=(1024,),
        preprocess=preprocess_flow,
        window=Window(settings.stack_size, settings.step_size, settings.tail),
        collate=as_clip,
        over=flow,
        labels=labels,
    )


def preprocess_rgb(rgb: RGB) -> Floats:
    """Resize the smaller side to 256 (PIL's bilinear) and crop the centre.

    uint8 (H, W, 3) → float32 (3, 224, 224) in −1 … 1
    """
    levels = centre_crop(channels_first(RESIZE(rgb)), CROP_SIZE)
    return scale_to_signed_unit(levels.astype(np.float32, order="C"))


def preprocess_flow(flow: Floats) -> Floats:
    """Crop the centre, clip to ±20 pixels and quantise to 256 levels, like an 8-bit image.

    float32 (2, H, W) in pixels → float32 (2, 224, 224) in −1 … 1
    """
    clipped: Floats = np.clip(centre_crop(flow, CROP_SIZE), -MAX_FLOW_PIXELS, MAX_FLOW_PIXELS)
    return scale_to_signed_unit(np.rint(128 + 255 / (2 * MAX_FLOW_PIXELS) * clipped))


def scale_to_signed_unit(levels: Floats) -> Floats:
    """Scale 0 … 255 to −1 … 1."""
    signed: Floats = levels * np.float32(2)
    signed /= 255
    signed -= 1
    return signed


def centre_crop(image: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """(C, H, W) → (C, side, side). If the margin is odd, the extra pixel is cut at the bottom or right."""
    top, left = ((size - side) // 2 for size in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def drop_last_frame(window: Sequence[Floats]) -> Floats:
    """Frames (C, H, W) of a stack → clip (C, stack_size, H, W), without the last frame."""
    return as_clip(window[:-1])


def _network(channels: int, path: Path) -> nn.Module:
    from ..networks.i3d import load

    return load(channels, path)
