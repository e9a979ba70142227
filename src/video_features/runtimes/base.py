"""What every runtime offers, and what it is given: a network that is not built yet, and where it is to run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import SettingsError


@dataclass(frozen=True)
class Placement:
    """Where and how networks are to run. Raises SettingsError where the runtime cannot run there, or is not installed.

    runtime, precision: as the settings of features have them
    tf32: whether a GPU may round what it multiplies to 10 bits
    """

    device: torch.device
    runtime: str = "auto"
    precision: str = "fp32"
    tf32: bool = False

    def __post_init__(self) -> None:
        if self.runtime != "openvino":
            return
        if self.device.type != "cpu":
            raise SettingsError(f"runtime=openvino is for the CPU, and the device is {self.device}: give device=cpu")
        if self.precision != "fp32":
            raise SettingsError(f"runtime=openvino computes in fp32; precision={self.precision} needs runtime=torch")
        if not has_openvino():
            raise SettingsError("runtime=openvino needs an extra: pip install 'video_features[openvino]'")


@dataclass(frozen=True)
class NetworkSpec:
    """A network that is not built yet.

    model: its name, for messages
    build: gives it, on the CPU; raises WeightsError where its weights do not fit
    key: what tells it from every other: weights, settings, code, versions
    passes_are_long: whether a video has only a few rows of it, each of which takes long
    """

    model: str
    build: Callable[[], nn.Module]
    key: str
    passes_are_long: bool = False


class Runtime(Protocol):
    """A network, ready to run; called from several threads at once.

    name: what it runs in, for records
    pads: whether a batch of another size than the last costs it dear, so that one that is not full is filled up
    most_rows: of which more in one pass save nothing; None where there is no such number
    """

    name: str
    pads: bool
    most_rows: int | None

    def __call__(self, method: str, batch: Any) -> Any:
        """What its `forward`, or another method, makes of a batch: tensors, or such in lists in lists, on any device →
        a tensor (B, …), or several or None, on the runtime's device."""


def has_openvino() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("openvino") is not None


def over_tensors(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A function of every tensor of a tensor, or of such in lists in lists; None stays None."""
    if batch is None or isinstance(batch, Tensor):
        return None if batch is None else function(batch)
    return [over_tensors(one, function) for one in batch]


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """The tensors of a tensor, or of such in lists in lists; None is none."""
    if isinstance(batch, Tensor):
        yield batch
    elif batch is not None:
        for one in batch:
            yield from tensors_of(one)
