"""I3D: clip features of Kinetics-400 networks, one vector per stack of frames and stream.

Carreira, Zisserman: Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset, 2017,
https://arxiv.org/abs/1705.07750. The network is an inflated Inception-v1. The weights were converted from DeepMind's by
hassony2 (https://github.com/hassony2/kinetics_i3d_pytorch) and are published by the reference tool,
v-iashin/video_features at a2f61b7a4cf0, whose windows and preprocessing this module follows.

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

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, max_pool3d, pad, relu

from ..errors import SettingsError
from ..extraction import Extractor, PointwiseHead, Resize, Stream, Window, WithHead, as_clip, channels_first
from ..media import RGB
from ..settings import ClipSettings, setting, unknown
from ..weights import REFERENCE_FILES, Weights, load_strictly, own_or_published, read
from . import pwc, raft
from ._kinetics import kinetics_400

log = logging.getLogger(__name__)

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
    streams: str | None = setting(None, "Streams to compute: rgb or flow.  [default: both]", metavar="NAME")
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
        paper="https://arxiv.org/abs/1705.07750",
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


def preprocess_rgb(rgb: RGB) -> Tensor:
    """Resize the smaller side to 256 and crop the centre: uint8 (H, W, 3) → float32 (3, 224, 224) in −1 … 1."""
    return scale_to_signed_unit(centre_crop(channels_first(RESIZE(rgb)), CROP_SIZE).float())


def preprocess_flow(flow: Tensor) -> Tensor:
    """Crop the centre, clip to ±20 pixels and quantise to 256 levels, like an 8-bit image.

    float32 (2, H, W) in pixels → float32 (2, 224, 224) in −1 … 1
    """
    clipped = centre_crop(flow, CROP_SIZE).clamp(-MAX_FLOW_PIXELS, MAX_FLOW_PIXELS)
    return scale_to_signed_unit(torch.round(128 + 255 / (2 * MAX_FLOW_PIXELS) * clipped))


def scale_to_signed_unit(levels: Tensor) -> Tensor:
    """Scale 0 … 255 to −1 … 1."""
    return levels * 2 / 255 - 1


def centre_crop(image: Tensor, side: int) -> Tensor:
    """(C, H, W) → (C, side, side). If the margin is odd, the extra pixel is cut at the bottom or right."""
    top, left = ((size - side) // 2 for size in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def drop_last_frame(window: Sequence[Tensor]) -> Tensor:
    """Frames (C, H, W) of a stack → clip (C, stack_size, H, W), without the last frame."""
    return as_clip(window[:-1])


def _network(channels: int, path: Path) -> nn.Module:
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
