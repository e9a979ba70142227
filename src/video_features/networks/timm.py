"""Networks of timm, split into features and classifier.

Wightman: PyTorch Image Models, https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import copy
import difflib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import timm
import timm.data
import torch
from torch import Tensor, nn

from ..errors import WeightsError, in_one_line
from ..weights import Others, load_strictly, read
from .heads import WithHead

MOST_SIMILAR = 20  # models that a checkpoint is compared with; each takes about 0.05 s


def skeleton(name: str) -> Any:
    """Create the model on the meta device, which takes no memory for weights; if that fails, on the CPU."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False).eval()
    except RuntimeError:  # some models compute with tensors in their constructors, as did many in old versions of timm
        return timm.create_model(name, pretrained=False).eval()


def row_shape(model: Any, input_size: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the shape of a row. input_size: (3, height, width)"""
    device = next(model.parameters()).device
    with device, torch.inference_mode():
        headless = without_classifier(copy.deepcopy(model))
        return tuple(headless(torch.zeros(1, *input_size)).shape[1:])


def load(name: str, path: Path, *, packaged_name: Callable[[str], str] = str) -> Any:
    """Load a checkpoint with timm's tensor names, in a format that timm converts, or with other names.

    packaged_name: maps timm's name of a tensor to its name in EfficientNet-PyTorch, for such a file
    """
    state = read(path)
    model = timm.create_model(name, pretrained=False)
    if "_conv_stem.weight" in state:
        load_strictly(model, state, path, published_name=packaged_name)
        return model
    if set(state) == set(model.state_dict()):
        load_strictly(model, state, path, others=_others(name))
        return model
    # The names are not timm's. timm can convert the format in which each model's authors published the weights.
    overlay = {"state_dict": state, "custom_load": False}
    missing: list[str] = []
    try:
        with _missing_keys_recorded(missing):
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, KeyError, ValueError) as error:
        hint = _others(name).hint(state)
        raise WeightsError(f"{path}: not the weights of {name}{hint}; {in_one_line(error)}") from error
    if missing:
        hint = _others(name).hint(state)
        raise WeightsError(f"{path}: not the weights of {name}{hint}; missing: {', '.join(missing[:3])} …")
    model.pretrained_cfg.pop("state_dict", None)
    return model


def _others(name: str) -> Others:
    """Return the models in the same module of timm with the most similar names, plain names such as resnet50 first."""
    models = timm.list_models(module=timm.model_entrypoint(name).__module__.rpartition(".")[2])
    similar = difflib.get_close_matches(name.partition(".")[0], models, n=MOST_SIMILAR, cutoff=0)
    return Others("model_name", {other: partial(timm.create_model, other) for other in sorted(similar, key=len)})


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


def split(model: Any, *, predict: bool) -> nn.Module:
    """Split the model into a network without a classifier and, if `predict`, a head that computes the logits."""
    # Copy the modules but share the tensors, so that `model` keeps its classifier.
    tensors = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    headless = without_classifier(copy.deepcopy(model, tensors))
    if not predict:
        return WithHead(headless, None)
    classifier = model.get_classifier()
    if isinstance(classifier, nn.Linear):
        return WithHead(headless, classifier)
    return TwoPasses(headless, model)


def without_classifier(model: Any) -> Any:
    """Remove the model's classifier, in place."""
    if hasattr(model, "reset_classifier"):  # encoders of language models have no classifier
        model.reset_classifier(0)
    return model


class TwoPasses(nn.Module):
    """Runs the full model again for the logits, for classifiers that are more than a linear layer on the features."""

    def __init__(self, headless: nn.Module, full: nn.Module) -> None:
        super().__init__()
        self.headless, self.full = headless, full

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        return self.headless(batch), self.full(batch)


def labels(model: Any) -> list[str]:
    """Return the names of the model's classes."""
    subset = timm.data.infer_imagenet_subset(model.pretrained_cfg)
    if subset is None:
        return [f"class {index}" for index in range(model.num_classes)]
    info = timm.data.ImageNetInfo(subset)
    return [info.index_to_description(index) for index in range(model.num_classes)]
