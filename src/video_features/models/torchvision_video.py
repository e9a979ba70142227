"""torchvision's video classifiers: clip features of all networks, one vector per stack of frames.

R3D, MC3, R(2+1)D, S3D, MViT, Video Swin, and all networks that later versions of torchvision add. Networks, weights,
preprocessing and labels are torchvision's, from each model's weight enum.

    torchvision_video   float32 (N, D): the input of the network's last layer, the classifier
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import PIL.Image

from ..errors import SettingsError, in_one_line
from ..extraction import Card, Extractor, Paper, Stream, Window, as_clip
from ..extraction.pictures import described, picture_transform
from ..media import RGB
from ..settings import ClipSettings, setting, unknown
from ..weights import Weights, digits_in_name, own_or_published, remembered
from . import r21d, s3d
from ._torchvision import size_bytes

if TYPE_CHECKING:
    from torch import nn

MVIT = Paper(
    key="fan2021multiscale",
    title="Multiscale Vision Transformers",
    authors="Fan, Haoqi and Xiong, Bo and Mangalam, Karttikeya and Li, Yanghao and Yan, Zhicheng and "
    "Malik, Jitendra and Feichtenhofer, Christoph",
    venue="Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)",
    year=2021,
    url="https://arxiv.org/abs/2104.11227",
)
MVIT_V2 = Paper(
    key="li2022mvitv2",
    title="MViTv2: Improved Multiscale Vision Transformers for Classification and Detection",
    authors="Li, Yanghao and Wu, Chao-Yuan and Fan, Haoqi and Mangalam, Karttikeya and Xiong, Bo and "
    "Malik, Jitendra and Feichtenhofer, Christoph",
    venue="Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    year=2022,
    url="https://arxiv.org/abs/2112.01526",
)
SWIN = Paper(
    key="liu2022video",
    title="Video Swin Transformer",
    authors="Liu, Ze and Ning, Jia and Cao, Yue and Wei, Yixuan and Zhang, Zheng and Lin, Stephen and Hu, Han",
    venue="Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    year=2022,
    url="https://arxiv.org/abs/2106.13230",
)
CARD = Card(
    row="A stack of frames: the input of the network's last layer, the classifier.",
    papers=(r21d.PAPER, s3d.PAPER, MVIT, MVIT_V2, SWIN),
    shown=("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b"),
)


@dataclass(frozen=True, kw_only=True)
class Settings(ClipSettings):
    model_name: str = setting(
        "r3d_18",
        "Network, such as swin3d_t. `video-features models torchvision_video` lists all networks.",
        metavar="NAME",
    )


@remembered("torchvision")
def list_models() -> list[str]:
    """Return all architectures (with default weights), and `architecture.TAG` for each of their published weights."""
    from torchvision.models import get_model_weights, list_models, video

    names = list_models(module=video)
    return sorted([*names, *(f"{name}.{weights.name}" for name in names for weights in get_model_weights(name))])


def published_weights(model_name: str) -> Weights:
    known = _known(model_name)
    return Weights(
        url=known["url"],
        sha256=digits_in_name(known["url"]),
        licence=known["licence"],
        size_bytes=known["size_bytes"],
        paper=known["paper"],
        trained_on=f"{known['tag']}, clips of {known['clip_len']} frames at {known['frame_rate']} fps",
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    name = settings.model_name
    known = _known(name)
    size, step = (given or _clip_length(known) for given in (settings.stack_size, settings.step_size))
    stream = Stream(
        key="torchvision_video",
        model=name,
        weights=own_or_published(settings.weights, published_weights(name)),
        build_network=partial(_network, _architecture(name)),
        row_shape=tuple(_row_shape(name, [3, size, *known["crop_size"]])),
        preprocess=_preprocess(name, known["transform"]),
        window=Window(size, step, settings.tail),
        collate=as_clip,
        labels=known["labels"] if predict else None,
    )
    settings = replace(settings, stack_size=size, step_size=step)
    return Extractor(feature="torchvision_video", settings=settings, streams=[stream])


def _preprocess(name: str, transform: dict[str, Any] | None) -> Callable[[RGB], npt.NDArray[Any]]:
    """Return the transform of a frame, uint8 (H, W, 3) → float32 (3, h, w).

    torchvision resizes levels and rounds them to whole levels. Where its sums before that differ from ours by their own
    rounding, a level may differ by 1: at most 3 of 100 000 levels of random pictures.
    """
    return picture_transform(transform, lambda: _of_one_frame(_enum(name).transforms()))


def _of_one_frame(transform: Any) -> Callable[[PIL.Image.Image], Any]:
    """Turn torchvision's transform of clips, uint8 (T, 3, H, W) → (3, T, h, w), into one of a picture."""
    from torchvision.transforms.functional import pil_to_tensor

    return lambda picture: transform(pil_to_tensor(picture)[None])[:, 0]


@remembered("torchvision")
def _known(model_name: str) -> dict[str, Any]:
    """Return what torchvision knows of the weights. Raises SettingsError for an unknown name."""
    weights = _enum(model_name)
    transform = weights.transforms()
    return {
        "name": str(weights),
        "tag": weights.name,
        "url": weights.url,
        "licence": weights.meta.get("license", "unknown"),
        "size_bytes": size_bytes(weights),
        "paper": _paper(model_name),
        "clip_len": _documented(weights, "clip_len"),
        "frame_rate": _documented(weights, "frame_rate"),
        "labels": weights.meta["categories"],
        "crop_size": list(transform.crop_size),
        "transform": described(transform),
    }


def _enum(model_name: str) -> Any:
    from torchvision.models import get_model_weights

    if model_name not in (names := list_models()):
        raise SettingsError(unknown("torchvision_video model_name", model_name, names))
    return get_model_weights(_architecture(model_name))[model_name.partition(".")[2] or "DEFAULT"]


def _architecture(model_name: str) -> str:
    return model_name.partition(".")[0]


def _paper(model_name: str) -> str:
    from torchvision.models import get_model_builder

    papers = re.findall(r"https://arxiv\.org/abs/[\d.]+", get_model_builder(_architecture(model_name)).__doc__ or "")
    return papers[-1] if papers else ""  # MViT v2 also cites the paper of the first version


def _documented(weights: Any, parameter: str) -> str:
    """Return a parameter of the weights' evaluation, such as `clip_len`, or `unknown`.

    torchvision states these parameters only in the documentation of the weights, as `clip_len=16`.
    """
    found = re.search(rf"{parameter}=([\d.]+)", weights.meta["_docs"])
    return found[1] if found else "unknown"


def _clip_length(known: dict[str, Any]) -> int:
    if known["clip_len"] == "unknown":
        raise SettingsError(
            f"torchvision does not document the clip length of {known['name']}: give stack_size and step_size"
        )
    return int(known["clip_len"])


@remembered("torchvision", "torch")
def _row_shape(model_name: str, clip: list[int]) -> tuple[int, ...]:
    """Return the shape of a row. Raises SettingsError if the network cannot take clips (3, T, H, W) of this length."""
    from ..networks.torchvision import row_shape

    try:
        return row_shape(_architecture(model_name), tuple(clip))
    except RuntimeError as error:
        trained = _known(model_name)["clip_len"]
        raise SettingsError(
            f"{model_name} cannot take stack_size={clip[1]}: it was trained on {trained} frames ({in_one_line(error)})"
        ) from error


def _network(architecture: str, path: Path) -> nn.Module:
    from ..networks.torchvision import load

    others = {name: name for name in list_models() if "." not in name}
    return load(architecture, path, others=others)
