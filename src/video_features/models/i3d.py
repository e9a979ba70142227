"""I3D: clip features of Kinetics-400 networks, a vector a stack of frames for each stream.

Carreira, Zisserman: Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset, 2017,
https://arxiv.org/abs/1705.07750. Inception-v1, inflated; weights as hassony2 converted them from DeepMind's
(https://github.com/hassony2/kinetics_i3d_pytorch) and the reference tool, v-iashin/video_features at a2f61b7a4cf0,
publishes them; windows and preprocessing are that tool's.

    rgb    float32 (N, 1024): the last map, averaged over its area and then over time
    flow   the same of a network of its own, which sees the optical flow, RAFT's or PWC-Net's, as colours of 8 bits

A row's stack is one frame longer than `stack_size`, so that the flow between its frames fills one too; the stream of
colours sees all but the last.
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
from ..extraction import Extractor, PointwiseHead, Resize, Stream, WithHead, as_clip, channels_first
from ..media import RGB
from ..settings import ClipSettings, setting, unknown
from ..timeline.windows import Window
from ..weights import Weights, load_strictly, own_or_published, read
from ..weights.obtain import REFERENCE_FILES
from . import pwc, raft
from ._kinetics import kinetics_400

log = logging.getLogger(__name__)

RAFT = "sintel"  # of its weights
GIT_BLOBS = {
    "i3d_rgb": "2a7c22e23e6c74f50a0166ce61110bccd2ab48bb",
    "i3d_flow": "5d552d2206f41089c428b0d9d8de3b1fccc85b5a",
}
STREAMS = ("rgb", "flow")
FLOW_TYPES = ("raft", "pwc")
LEAST_FRAMES = 10  # the last map is two deep then, and so is its pooling
CROPPED = 224
resize = Resize(256)
LARGEST_FLOW = 20  # pixels; longer ones are cut


@dataclass(frozen=True, kw_only=True)
class Settings(ClipSettings):
    weights: dict[str, Path] | None = setting(  # type: ignore[assignment]  # several networks, several files
        None,
        "checkpoints to use instead of the published ones, as their authors publish them: weights.rgb, "
        "weights.flow, weights.raft, weights.pwc",
        metavar="FILE",
        parts=(*STREAMS, *FLOW_TYPES),
    )
    streams: str | None = setting(None, "rgb or flow; by default both", metavar="NAME")
    flow_type: str = setting("raft", "which flow the stream of flow sees: raft or pwc", metavar="raft|pwc")
    stack_size: int = setting(
        64, f"frames in a row's window, at least {LEAST_FRAMES}; a row takes one more, for its flow", metavar="N"
    )
    step_size: int = setting(64, "frames from one window's start to the next one's", metavar="N")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.streams not in (None, *STREAMS):
            raise SettingsError(f"{unknown('i3d streams', self.streams, STREAMS)}; both are the default, null")
        if self.flow_type not in FLOW_TYPES:
            raise SettingsError(unknown("i3d flow_type", self.flow_type, FLOW_TYPES))
        if self.stack_size < LEAST_FRAMES:
            raise SettingsError(f"i3d needs a stack_size of at least {LEAST_FRAMES}, and it is {self.stack_size}")
        if self.weights and "" in self.weights and self.streams != "rgb":
            raise SettingsError(
                f"i3d has several networks: give each its own file, weights.rgb=…, weights.flow=…, "
                f"weights.{self.flow_type}=…, instead of weights={self.weights['']}"
            )


def list_models() -> list[str]:
    return [*GIT_BLOBS, *FLOW_TYPES]


def published_weights(model_name: str) -> Weights:
    if model_name == "raft":
        return raft.published_weights(RAFT)
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
    own = settings.weights or {}
    make = {"rgb": rgb_stream, "flow": flow_stream}
    chosen = STREAMS if settings.streams is None else (settings.streams,)
    labels = kinetics_400() if predict else None
    streams = [make[key](settings, own, labels) for key in chosen]
    extractor = Extractor(feature="i3d", settings=settings, streams=streams)
    with_these = settings.streams or "null", settings.flow_type
    used = {stream.weights_setting for stream in extractor.all_streams()}
    for part in sorted(part for part in own if part and f"weights.{part}" not in used):
        log.warning("i3d does not use weights.%s with streams=%s and flow_type=%s", part, *with_these)
    return extractor


def rgb_stream(settings: Settings, own: Mapping[str, Path], labels: Sequence[str] | None) -> Stream:
    return Stream(
        key="rgb",
        model="i3d_rgb",
        weights=own_or_published(own.get("rgb") or own.get(""), published_weights("i3d_rgb")),
        weights_setting="weights.rgb",
        build_network=partial(_network, 3),
        row_shape=(1024,),
        preprocess=preprocess_rgb,
        window=Window(settings.stack_size + 1, settings.step_size, settings.tail),
        collate=all_but_the_last,
        labels=labels,
    )


def flow_stream(settings: Settings, own: Mapping[str, Path], labels: Sequence[str] | None) -> Stream:
    if settings.flow_type == "raft":  # what the frames are padded with has its flow, too
        between = raft.stream(RAFT, own.get("raft"), resize, keeps_padding=True, weights_setting="weights.raft")
    else:
        between = pwc.stream(own.get("pwc"), resize, weights_setting="weights.pwc")
    return Stream(
        key="flow",
        model="i3d_flow",
        weights=own_or_published(own.get("flow"), published_weights("i3d_flow")),
        weights_setting="weights.flow",
        build_network=partial(_network, 2),
        row_shape=(1024,),
        preprocess=preprocess_flow,
        window=Window(settings.stack_size, settings.step_size, settings.tail),
        collate=as_clip,
        over=between,
        labels=labels,
    )


def preprocess_rgb(rgb: RGB) -> Tensor:
    """uint8 (H, W, 3) → float32 (3, 224, 224) in −1 … 1: the smaller side at 256, then the centre."""
    return around_zero(centre(channels_first(resize(rgb)), CROPPED).float())


def preprocess_flow(flow: Tensor) -> Tensor:
    """float32 (2, H, W), pixels → (2, 224, 224) in −1 … 1: the centre, ±20 pixels in 256 steps, as colours have."""
    short = centre(flow, CROPPED).clamp(-LARGEST_FLOW, LARGEST_FLOW)
    return around_zero(torch.round(128 + 255 / (2 * LARGEST_FLOW) * short))


def around_zero(levels: Tensor) -> Tensor:
    """0 … 255 → −1 … 1"""
    return levels * 2 / 255 - 1


def centre(image: Tensor, side: int) -> Tensor:
    """(C, H, W) → (C, side, side); where the margin is odd, the larger part is cut after."""
    top, left = ((size - side) // 2 for size in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def all_but_the_last(window: Sequence[Tensor]) -> Tensor:
    """Frames (C, H, W) of a stack → a clip (C, stack_size, H, W)."""
    return as_clip(window[:-1])


def _network(channels: int, path: Path) -> nn.Module:
    network = InceptionI3d(channels)
    load_strictly(network, read(path), path)
    return WithHead(network, PointwiseHead(network.conv3d_0c_1x1))


class InceptionI3d(nn.Module):
    """The network under its published names: (B, channels, T, 224, 224) → features (B, 1024); T at least 10.

    conv3d_0c_1x1: its classifier, which the features do not go through
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
    """Convolution padded as TensorFlow's `SAME` for an even size, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.pads = same_pads((kernel,) * 3, (stride,) * 3)
        self.conv3d = nn.Conv3d(channels_in, channels_out, kernel, stride, bias=False)
        self.batch3d = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.batch3d(self.conv3d(pad(x, self.pads))))


class Mixed(nn.Module):
    """Inception's block: four branches over one input, their channels side by side."""

    def __init__(
        self, channels: int, one: int, three: tuple[int, int], other_three: tuple[int, int], pooled: int
    ) -> None:
        super().__init__()
        self.branch_0 = Unit3d(channels, one, 1)
        self.branch_1 = nn.Sequential(Unit3d(channels, three[0], 1), Unit3d(*three, 3))
        self.branch_2 = nn.Sequential(Unit3d(channels, other_three[0], 1), Unit3d(*other_three, 3))
        self.branch_3 = nn.Sequential(MaxPool3x3(), Unit3d(channels, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch_0(x), self.branch_1(x), self.branch_2(x), self.branch_3(x)], dim=1)


class MaxPool3x3(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return max_pool(x, (3, 3, 3), (1, 1, 1))


Size = tuple[int, int, int]


def max_pool(x: Tensor, kernel: Size, stride: Size) -> Tensor:
    """Padded with zeros as the convolutions are; what is left at the end is a window too."""
    return max_pool3d(pad(x, same_pads(kernel, stride)), kernel, stride, ceil_mode=True)


def same_pads(kernel: Size, stride: Size) -> list[int]:
    """Zeros before and after each axis, the last axis first, as `pad` takes them: kernel − stride in all, the odd one
    after. TensorFlow's own rule depends on the size; the published weights' network does not."""
    totals = [max(k - s, 0) for k, s in zip(kernel, stride, strict=True)]
    return [zeros for total in reversed(totals) for zeros in (total // 2, total - total // 2)]
