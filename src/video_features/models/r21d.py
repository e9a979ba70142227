"""R(2+1)D: clip features of Kinetics-400 networks, one vector per stack of frames.

The 34-layer networks were pre-trained on IG-65M and converted from Caffe2 by
https://github.com/moabitcoin/ig65m-pytorch (release v1.0.0). All networks are built from torchvision's `VideoResNet`.
The preprocessing follows the reference tool, v-iashin/video_features at a2f61b7a4cf0.

    r21d   float32 (N, 512): the pooled vector before `fc`
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import SettingsError
from ..extraction import Card, Extractor, Paper, Stream, Window, as_clip, channels_first, resize_bilinear
from ..media import RGB
from ..settings import ClipSettings, setting, unknown
from ..weights import Weights, digits_in_name, own_or_published
from ._kinetics import kinetics_400

if TYPE_CHECKING:
    from torch import nn

PAPER = Paper(
    key="tran2018closer",
    title="A Closer Look at Spatiotemporal Convolutions for Action Recognition",
    authors="Tran, Du and Wang, Heng and Torresani, Lorenzo and Ray, Jamie and LeCun, Yann and Paluri, Manohar",
    venue="Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)",
    year=2018,
    url="https://arxiv.org/abs/1711.11248",
)
IG65M_PAPER = Paper(
    key="ghadiyaram2019large",
    title="Large-Scale Weakly-Supervised Pre-Training for Video Action Recognition",
    authors="Ghadiyaram, Deepti and Tran, Du and Mahajan, Dhruv",
    venue="Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    year=2019,
    url="https://arxiv.org/abs/1905.00561",
)
CARD = Card(row="A stack of frames: the pooled vector before the classifier.", papers=(PAPER, IG65M_PAPER))
IG65M = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"
CLIP_LENGTHS = {  # in frames, as each network was trained
    "r2plus1d_18_16_kinetics": 16,
    "r2plus1d_34_32_ig65m_ft_kinetics": 32,
    "r2plus1d_34_8_ig65m_ft_kinetics": 8,
}
URLS = {
    "r2plus1d_18_16_kinetics": "https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth",
    "r2plus1d_34_32_ig65m_ft_kinetics": f"{IG65M}r2plus1d_34_clip32_ft_kinetics_from_ig65m-ade133f1.pth",
    "r2plus1d_34_8_ig65m_ft_kinetics": f"{IG65M}r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b.pth",
}
MEAN, STD = (  # (3, 1, 1)
    np.array(values, np.float32)[:, None, None]
    for values in ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
)


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
        paper=(IG65M_PAPER if ig65m else PAPER).url,
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
        build_network=partial(_network, name),
        row_shape=(512,),
        preprocess=preprocess,
        window=Window(size, step, settings.tail),
        collate=as_clip,
        labels=kinetics_400() if predict else None,
    )
    return Extractor(feature="r21d", settings=replace(settings, stack_size=size, step_size=step), streams=[stream])


def preprocess(rgb: RGB) -> npt.NDArray[np.float32]:
    """Resize to 128×171 (bilinear, no antialiasing), ignoring the aspect ratio, and crop the centre.

    Scale to 0 … 1, subtract the mean (0.43216, 0.394666, 0.37645) and divide by the standard deviation
    (0.22803, 0.22145, 0.216989). uint8 (H, W, 3) → float32 (3, 112, 112)
    """
    cropped = resize_bilinear(channels_first(rgb), (128, 171), crop=(112, 112))  # starts at row 8, column 30
    cropped /= 255
    cropped -= MEAN
    cropped /= STD
    return cropped


def _network(name: str, path: Path) -> nn.Module:
    from ..networks.r21d import r2plus1d_34
    from ..networks.torchvision import load

    networks = {other: r2plus1d_34 if "_34_" in other else "r2plus1d_18" for other in URLS}
    return load(networks[name], path, others=networks)
