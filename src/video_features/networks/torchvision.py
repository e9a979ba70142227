"""Networks of torchvision, split into features and classifier.

torchvision: https://github.com/pytorch/vision. The features are the input of the network's last module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model

from ..weights import Others, load_strictly, read
from .heads import PointwiseHead, WithHead

Builder = Callable[[], nn.Module]


def load(
    network: str | Builder,
    path: Path,
    *,
    published_name: Callable[[str], str] = str,
    others: Mapping[str, str | Builder] | None = None,
) -> nn.Module:
    """Load a checkpoint into a network and split it.

    network: builds a network, or the name of one of torchvision's
    published_name: maps torchvision's name of a tensor to the tensor's name in the checkpoint
    others: {model_name: network} of the family, to say which network a checkpoint fits instead
    """
    built = _builder(network)()
    family = Others("model_name", {name: _builder(other) for name, other in (others or {}).items()})
    load_strictly(built, read(path), path, published_name=published_name, others=family)
    trunk, classifier = split(built)
    convolutional = any(isinstance(module, nn.Conv3d) for module in classifier.modules())
    return WithHead(trunk, PointwiseHead(classifier) if convolutional else classifier)


def _builder(network: str | Builder) -> Builder:
    return partial(get_model, network, weights=None) if isinstance(network, str) else network


def split(network: Any) -> tuple[nn.Module, nn.Module]:
    """Return the network without its classifier, and the classifier, which is the network's last module."""
    name, classifier = list(network.named_children())[-1]
    setattr(network, name, nn.Identity())
    return network, classifier


def row_shape(name: str, item: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a row from one input `item`, without computing it.

    Raises RuntimeError if the network cannot take an input of this shape.
    """
    with torch.device("meta"), torch.inference_mode():  # only infers shapes
        trunk, _ = split(get_model(name, weights=None).eval())
        return tuple(trunk(torch.empty(1, *item)).shape[1:])
