"""ResNet: torchvision's ImageNet networks, one vector per frame.

Networks, weights (`IMAGENET1K_V1`) and preprocessing are torchvision's. The input is a PIL image: its smaller side is
resized to 256 (bilinear), its centre is cropped to 224, and ImageNet's mean and standard deviation normalise it.

    resnet   float32 (N, 512) for resnet18 and resnet34, else (N, 2048): the pooled vector before `fc`
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..extraction import Card, Extractor, Paper, Stream
from ..extraction.pictures import described, picture_transform
from ..settings import FrameSettings, setting, unknown
from ..weights import Weights, digits_in_name, own_or_published, remembered
from ._torchvision import size_bytes

if TYPE_CHECKING:
    from torch import nn

PAPER = Paper(
    key="he2016deep",
    title="Deep Residual Learning for Image Recognition",
    authors="He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
    venue="Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)",
    year=2016,
    url="https://arxiv.org/abs/1512.03385",
)
CARD = Card(row="One frame: the pooled vector before the network's last layer, the classifier.", papers=(PAPER,))
NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    model_name: str = setting("resnet50", f"Network: {', '.join(NAMES)}.", metavar="NAME")


def list_models() -> list[str]:
    return NAMES


def published_weights(model_name: str) -> Weights:
    known = _known(model_name)
    return Weights(
        url=known["url"],
        sha256=digits_in_name(known["url"]),
        paper=PAPER.url,
        trained_on="ImageNet-1k",
        size_bytes=known["size_bytes"],
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    name = settings.model_name
    known = _known(name)
    stream = Stream(
        key="resnet",
        model=name,
        weights=own_or_published(settings.weights, published_weights(name)),
        build_network=partial(_network, name),
        row_shape=(512,) if name in ("resnet18", "resnet34") else (2048,),
        preprocess=picture_transform(known["transform"], lambda: _enum(name).transforms()),
        labels=known["labels"] if predict else None,
    )
    return Extractor(feature="resnet", settings=settings, streams=[stream])


def _network(name: str, path: Path) -> nn.Module:
    from ..networks.torchvision import load

    return load(name, path, others={other: other for other in NAMES})


@remembered("torchvision")
def _known(model_name: str) -> dict[str, Any]:
    """Return what torchvision knows of the weights: URL, size, preprocessing and labels. Raises SettingsError."""
    weights = _enum(model_name)
    return {
        "url": weights.url,
        "size_bytes": size_bytes(weights),
        "transform": described(weights.transforms()),
        "labels": weights.meta["categories"],
    }


def _enum(model_name: str) -> Any:
    if model_name not in NAMES:
        raise SettingsError(unknown("resnet model_name", model_name, NAMES))
    from torchvision.models import get_model_weights

    return get_model_weights(model_name).IMAGENET1K_V1
