"""R(2+1)D: clip features of Kinetics-400 networks, one vector per stack of frames.

Tran et al.: A Closer Look at Spatiotemporal Convolutions for Action Recognition, 2018,
https://arxiv.org/abs/1711.11248; the 34-layer networks: Ghadiyaram et al.: Large-scale Weakly-supervised Pre-training
for Video Action Recognition, 2019, https://arxiv.org/abs/1905.00561, converted from Caffe2 by
https://github.com/moabitcoin/ig65m-pytorch (release v1.0.0). All networks are built from torchvision's `VideoResNet`.
The preprocessing follows the reference tool, v-iashin/video_features at a2f61b7a4cf0.

    r21d   float32 (N, 512): the pooled vector before `fc`
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn
from torchvision.models.video import R2Plus1D_18_Weights, r2plus1d_18
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet
from torchvision.transforms.functional import center_crop, normalize

from ..errors import SettingsError
from ..extraction import Extractor, Stream, Window, WithHead, as_clip, resize_bilinear, unit_range
from ..media import RGB
from ..settings import ClipSettings, setting, unknown
from ..weights import Weights, digits_in_name, load_strictly, own_or_published, read
from ._kinetics import kinetics_400

IG65M = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"
CLIP_LENGTHS = {  # in frames, as each network was trained
    "r2plus1d_18_16_kinetics": 16,
    "r2plus1d_34_32_ig65m_ft_kinetics": 32,
    "r2plus1d_34_8_ig65m_ft_kinetics": 8,
}
URLS = {
    "r2plus1d_18_16_kinetics": R2Plus1D_18_Weights.KINETICS400_V1.url,
    "r2plus1d_34_32_ig65m_ft_kinetics": f"{IG65M}r2plus1d_34_clip32_ft_kinetics_from_ig65m-ade133f1.pth",
    "r2plus1d_34_8_ig65m_ft_kinetics": f"{IG65M}r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b.pth",
}
MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True, kw_only=True)
class Settings(ClipSettings):
    model_name: str = setting("r2plus1d_18_16_kinetics", f"Network: {', '.join(CLIP_LENGTHS)}.", metavar="NAME")
    stack_size: int | None = setting(
        None, "Frames per clip; each clip gives one row.  [default: 16, 32 or 8, as in the model's name]", metavar="N"
    )
    step_size: int | None = setting(
        None,
        "Frames from the start of one clip to the start of the next.  [default: as in the model's name]",
        metavar="N",
    )


def list_models() -> list[str]:
    return list(URLS)


def published_weights(model_name: str) -> Weights:
    if model_name not in URLS:
        raise SettingsError(unknown("r21d model_name", model_name, URLS))
    ig65m = "ig65m" in model_name
    return Weights(
        url=URLS[model_name],
        sha256=digits_in_name(URLS[model_name]),
        paper="https://arxiv.org/abs/1905.00561" if ig65m else "https://arxiv.org/abs/1711.11248",
        trained_on="IG-65M, then Kinetics-400" if ig65m else "Kinetics-400",
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    name = settings.model_name
    published = published_weights(name)
    size, step = settings.stack_size or CLIP_LENGTHS[name], settings.step_size or CLIP_LENGTHS[name]
    stream = Stream(
        key="r21d",
        model=name,
        weights=own_or_published(settings.weights, published),
        build_network=lambda path: _network(name, path),
        row_shape=(512,),
        preprocess=preprocess,
        window=Window(size, step, settings.tail),
        collate=as_clip,
        labels=kinetics_400() if predict else None,
    )
    return Extractor(feature="r21d", settings=replace(settings, stack_size=size, step_size=step), streams=[stream])


def preprocess(rgb: RGB) -> Tensor:
    """Resize to 128×171, ignoring the aspect ratio, crop the centre and normalise.

    uint8 (H, W, 3) → float32 (3, 112, 112)
    """
    cropped: Tensor = center_crop(resize_bilinear(unit_range(rgb), (128, 171)), 112)  # starts at row 8, column 30
    normalised: Tensor = normalize(cropped, MEAN, STD)
    return normalised


def _network(name: str, path: Path) -> nn.Module:
    network = r2plus1d_18() if name == "r2plus1d_18_16_kinetics" else r2plus1d_34()
    load_strictly(network, read(path), path)
    classifier, network.fc = network.fc, nn.Identity()
    return WithHead(network, classifier)


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
