"""S3D: clip features of a Kinetics-400 network, one vector per stack of frames.

The weights were converted by kylemin (https://github.com/kylemin/S3D) and are published by the reference tool,
v-iashin/video_features at a2f61b7a4cf0, whose preprocessing this module follows. The network is torchvision's `s3d`,
which has the same tensors in the same order under different names.

    s3d   float32 (N, 1024): the last feature map, averaged over space and then over time
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import SettingsError
from ..extraction import Card, Extractor, Paper, Stream, Window, as_clip, channels_first, resize_bilinear
from ..media import RGB
from ..settings import ClipSettings, setting, unknown
from ..weights import REFERENCE_FILES, Weights, own_or_published
from ._kinetics import kinetics_400

if TYPE_CHECKING:
    from torch import nn

PAPER = Paper(
    key="xie2018rethinking",
    title="Rethinking Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video Classification",
    authors="Xie, Saining and Sun, Chen and Huang, Jonathan and Tu, Zhuowen and Murphy, Kevin",
    venue="Proceedings of the European Conference on Computer Vision (ECCV)",
    year=2018,
    url="https://arxiv.org/abs/1712.04851",
)
CARD = Card(row="A stack of frames: the last feature map, averaged over space and then over time.", papers=(PAPER,))
MIN_FRAMES = 13  # the last map then has two time steps, the size of the pooling window
SIDE = 224
# torchvision's layer numbers within a block → the published names. A separable convolution is a convolution in space
# (s) followed by a convolution in time (t).
LAYERS = {"0": "conv", "1": "bn", "0.0": "conv_s", "0.1": "bn_s", "1.0": "conv_t", "1.1": "bn_t"}


@dataclass(frozen=True, kw_only=True)
class Settings(ClipSettings):
    extraction_fps: float | None = setting(
        25.0,
        "Frames per second to sample, with the same result as FFmpeg's fps filter; null: every frame.",
        metavar="FPS",
    )
    stack_size: int = setting(64, f"Frames per clip, at least {MIN_FRAMES}; each clip gives one row.", metavar="N")
    step_size: int = setting(64, "Frames from the start of one clip to the start of the next.", metavar="N")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stack_size < MIN_FRAMES:
            raise SettingsError(f"s3d needs a stack_size of at least {MIN_FRAMES}, got {self.stack_size}")


def list_models() -> list[str]:
    return ["s3d"]


def published_weights(model_name: str) -> Weights:
    if model_name not in list_models():
        raise SettingsError(unknown("network of s3d", model_name, list_models()))
    return Weights(
        url=f"{REFERENCE_FILES}s3d/checkpoint/S3D_kinetics400_torchified.pt",
        git_blob="65b27cbb412937b3dd705f4216cb822d679535df",
        paper=PAPER.url,
        trained_on="Kinetics-400",
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    stream = Stream(
        key="s3d",
        model="s3d",
        weights=own_or_published(settings.weights, published_weights("s3d")),
        build_network=_network,
        row_shape=(1024,),
        preprocess=preprocess,
        window=Window(settings.stack_size, settings.step_size, settings.tail),
        collate=as_clip,
        labels=kinetics_400() if predict else None,
    )
    return Extractor(feature="s3d", settings=settings, streams=[stream])


def preprocess(rgb: RGB) -> npt.NDArray[np.float32]:
    """Resize the smaller side to 224 (bilinear, no antialiasing) and crop the centre; no mean or standard deviation.

    uint8 (H, W, 3) → float32 (3, 224, 224) in 0 … 1
    """
    height, width = rgb.shape[:2]
    scale = SIDE / min(height, width)
    scaled = math.floor(height * scale), math.floor(width * scale)
    levels, crop = channels_first(rgb), (SIDE, SIDE)
    if min(scaled) >= SIDE:
        cropped = resize_bilinear(levels, scale=scale, crop=crop)
    else:  # floor gives 223 at some sizes, such as height 568: too small for the crop, but the reference keeps it
        cropped = resize_bilinear(levels, (max(SIDE, scaled[0]), max(SIDE, scaled[1])), crop=crop)
    cropped /= 255
    return cropped


def _network(path: Path) -> nn.Module:
    from ..networks.torchvision import load

    return load("s3d", path, published_name=published_name)


def published_name(name: str) -> str:
    """Map torchvision's name of a tensor to the tensor's name in the published checkpoint."""
    match = re.fullmatch(r"features\.(\d+(?:\.branch\d(?:\.[01])?)?)\.([01](?:\.[01])?)\.(\w+)", name)
    if match is None:
        return name.replace("classifier.1.", "fc.0.")
    block, layer, tensor = match.groups()
    if block.endswith("branch0"):  # a branch with a single layer, which torchvision does not number
        block += ".0"
    return f"base.{block}.{LAYERS[layer]}.{tensor}"
