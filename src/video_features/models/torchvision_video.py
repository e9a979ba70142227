"""torchvision's video classifiers: clip features of all networks, one vector per stack of frames.

R3D, MC3 and R(2+1)D (https://arxiv.org/abs/1711.11248), S3D (https://arxiv.org/abs/1712.04851), MViT
(https://arxiv.org/abs/2104.11227, https://arxiv.org/abs/2112.01526), Video Swin (https://arxiv.org/abs/2106.13230), and
all networks that later versions of torchvision add. Networks, weights, preprocessing and labels are torchvision's, from
each model's weight enum.

    torchvision_video   float32 (N, D): the input of the network's last layer, the classifier
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model, get_model_builder, get_model_weights, video
from torchvision.models import list_models as torchvision_models

from ..errors import SettingsError, in_one_line
from ..extraction import Extractor, PointwiseHead, Stream, Window, WithHead, channels_first
from ..media import RGB
from ..settings import ClipSettings, setting, unknown
from ..weights import Weights, digits_in_name, load_strictly, own_or_published, read


@dataclass(frozen=True, kw_only=True)
class Settings(ClipSettings):
    model_name: str = setting(
        "r3d_18",
        "Network, such as swin3d_t. `video-features models torchvision_video` lists all networks.",
        metavar="NAME",
    )


def list_models() -> list[str]:
    """Return all architectures (with default weights), and `architecture.TAG` for each of their published weights."""
    names = torchvision_models(module=video)
    return sorted([*names, *(f"{name}.{weights.name}" for name in names for weights in get_model_weights(name))])


def published_weights(model_name: str) -> Weights:
    weights = _enum(model_name)
    clip, rate = _documented(weights, "clip_len"), _documented(weights, "frame_rate")
    return Weights(
        url=weights.url,
        sha256=digits_in_name(weights.url),
        licence=weights.meta.get("license", "unknown"),
        paper=_paper(model_name),
        trained_on=f"{weights.name}, clips of {clip} frames at {rate} fps",
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    weights = _enum(settings.model_name)
    transform = weights.transforms()
    size, step = (given or _clip_length(weights) for given in (settings.stack_size, settings.step_size))

    def preprocess(rgb: RGB) -> torch.Tensor:
        frame: torch.Tensor = transform(channels_first(rgb)[None])  # a clip of one frame: (3, 1, h, w)
        return frame

    stream = Stream(
        key="torchvision_video",
        model=settings.model_name,
        weights=own_or_published(settings.weights, published_weights(settings.model_name)),
        build_network=lambda path: _network(settings.model_name, path),
        row_shape=_row_shape(settings.model_name, (3, size, *transform.crop_size)),
        preprocess=preprocess,
        window=Window(size, step, settings.tail),
        collate=lambda clips: torch.cat(list(clips), dim=1),
        labels=weights.meta["categories"] if predict else None,
    )
    settings = replace(settings, stack_size=size, step_size=step)
    return Extractor(feature="torchvision_video", settings=settings, streams=[stream])


def _enum(model_name: str) -> Any:
    if model_name not in list_models():
        raise SettingsError(unknown("torchvision_video model_name", model_name, list_models()))
    return get_model_weights(_architecture(model_name))[model_name.partition(".")[2] or "DEFAULT"]


def _architecture(model_name: str) -> str:
    return model_name.partition(".")[0]


def _paper(model_name: str) -> str:
    papers = re.findall(r"https://arxiv\.org/abs/[\d.]+", get_model_builder(_architecture(model_name)).__doc__ or "")
    return papers[-1] if papers else ""  # MViT v2 also cites the paper of the first version


def _documented(weights: Any, parameter: str) -> str:
    """Return a parameter of the weights' evaluation, such as `clip_len`, or `unknown`.

    torchvision states these parameters only in the documentation of the weights, as `clip_len=16`.
    """
    found = re.search(rf"{parameter}=([\d.]+)", weights.meta["_docs"])
    return found[1] if found else "unknown"


def _clip_length(weights: Any) -> int:
    length = _documented(weights, "clip_len")
    if length == "unknown":
        raise SettingsError(
            f"torchvision does not document the clip length of {weights}: give stack_size and step_size"
        )
    return int(length)


def _row_shape(model_name: str, clip: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a row. Raises SettingsError if the network cannot take clips (3, T, H, W) of this length."""
    try:
        with torch.device("meta"), torch.inference_mode():  # only infers shapes, without computing anything
            trunk, _ = _split(get_model(_architecture(model_name)).eval())
            return tuple(trunk(torch.empty(1, *clip)).shape[1:])
    except RuntimeError as error:
        trained = _documented(_enum(model_name), "clip_len")
        raise SettingsError(
            f"{model_name} cannot take stack_size={clip[1]}: it was trained on {trained} frames ({in_one_line(error)})"
        ) from error


def _network(model_name: str, path: Path) -> nn.Module:
    network = get_model(_architecture(model_name))
    load_strictly(network, read(path), path)
    trunk, classifier = _split(network)
    convolutional = any(isinstance(module, nn.Conv3d) for module in classifier.modules())
    return WithHead(trunk, PointwiseHead(classifier) if convolutional else classifier)


def _split(network: Any) -> tuple[nn.Module, nn.Module]:
    """Return the network without its classifier, and the classifier, which is the network's last module."""
    name, classifier = list(network.named_children())[-1]
    setattr(network, name, nn.Identity())
    return network, classifier
