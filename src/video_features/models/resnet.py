"""ResNet: torchvision's ImageNet networks, one vector per frame.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015, https://arxiv.org/abs/1512.03385.
Networks, weights (`IMAGENET1K_V1`) and preprocessing are torchvision's. The input is a PIL image: its
smaller side is resized to 256 (bilinear), its centre is cropped to 224, and ImageNet's mean and standard deviation
normalise it.

    resnet   float32 (N, 512) for resnet18 and resnet34, else (N, 2048): the pooled vector before `fc`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import get_model, get_model_weights

from ..errors import SettingsError
from ..extraction import Extractor, Stream, WithHead, from_pil
from ..settings import FrameSettings, setting, unknown
from ..weights import Weights, digits_in_name, load_strictly, own_or_published, read

NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    model_name: str = setting("resnet50", f"Network: {', '.join(NAMES)}.", metavar="NAME")


def list_models() -> list[str]:
    return NAMES


def published_weights(model_name: str) -> Weights:
    url = _enum(model_name).url
    return Weights(
        url=url,
        sha256=digits_in_name(url),
        paper="https://arxiv.org/abs/1512.03385",
        trained_on="ImageNet-1k",
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    name = settings.model_name
    stream = Stream(
        key="resnet",
        model=name,
        weights=own_or_published(settings.weights, published_weights(name)),
        build_network=lambda path: _network(name, path),
        row_shape=(512,) if name in ("resnet18", "resnet34") else (2048,),
        preprocess=from_pil(_enum(name).transforms()),
        labels=_enum(name).meta["categories"] if predict else None,
    )
    return Extractor(feature="resnet", settings=settings, streams=[stream])


def _network(name: str, path: Path) -> nn.Module:
    network = get_model(name, weights=None)
    load_strictly(network, read(path), path)
    classifier, network.fc = network.fc, nn.Identity()
    return WithHead(network, classifier)


def _enum(model_name: str) -> Any:
    if model_name not in NAMES:
        raise SettingsError(unknown("resnet model_name", model_name, NAMES))
    return get_model_weights(model_name).IMAGENET1K_V1
