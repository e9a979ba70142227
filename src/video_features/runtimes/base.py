"""Defines the interface of runtimes, and the arguments that select and build a network."""

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
    """The device and the numerical mode in which a network runs.

    runtime, precision: see the settings of the same names
    tf32: True if a GPU may round the factors of products to a 10-bit mantissa (TF32)
    Raises SettingsError if the runtime does not support the device or the precision, or is not installed.
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

    model: the network's name, for messages
    build: returns the network on the CPU; raises WeightsError if the weights do not fit
    key: cache key that identifies the network: weights, settings, code and library versions
    passes_are_long: True if a video has only a few rows and each row takes long, as with clips
    """

    model: str
    build: Callable[[], nn.Module]
    key: str
    passes_are_long: bool = False


class Runtime(Protocol):
    """A network that is ready to run. Called from several threads at once.

    name: library, version, precision and device, for records
    pads: True if a new batch size is expensive, for instance because it compiles the network again; incomplete batches
        are then padded to the full size
    max_rows: the largest useful number of rows in a pass, beyond which batches save no time; None if there is no limit
    """

    name: str
    pads: bool
    max_rows: int | None

    def __call__(self, method: str, batch: Any) -> Any:
        """Call a method of the network, `forward` or another.

        batch: a tensor (B, …) or nested lists of such tensors, on any device
        Returns a tensor (B, …), or a sequence of tensors or None, on the runtime's device.
        """


def has_openvino() -> bool:
    """Return True if the `openvino` extra is installed."""
    return importlib.util.find_spec("openvino") is not None


def over_tensors(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to a tensor, or to every tensor in nested lists. None stays None."""
    if batch is None or isinstance(batch, Tensor):
        return None if batch is None else function(batch)
    return [over_tensors(element, function) for element in batch]


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yield a tensor, or every tensor in nested lists. None is skipped."""
    if isinstance(batch, Tensor):
        yield batch
    elif batch is not None:
        for element in batch:
            yield from tensors_of(element)
