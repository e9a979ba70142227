"""Defines the interface of runtimes, and the arguments that select and build a network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..signals import signals_blocked
from .devices import Device
from .threads import cores

if TYPE_CHECKING:
    from torch import nn

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Placement:
    """The device and the numerical mode in which a network runs.

    runtime, precision: see the settings of the same names
    tf32: True if a GPU may round the factors of products to a 10-bit mantissa (TF32)
    """

    device: Device
    runtime: str = "auto"
    precision: str = "fp32"
    tf32: bool = False


@dataclass(frozen=True)
class NetworkSpec:
    """A network that is not built yet.

    model: the network's name, for messages
    build_network: returns the network on the CPU; raises WeightsError if the weights do not fit
    key: cache key that identifies the network: weights, settings, code and library versions
    passes_are_long: True if a video has only a few rows and each row takes long, as with clips
    """

    model: str
    build_network: Callable[[], nn.Module]
    key: str
    passes_are_long: bool = False

    def build(self) -> nn.Module:
        """Build the network on the CPU. Raises WeightsError if the weights do not fit."""
        if "torch" not in sys.modules:
            with signals_blocked():  # an interrupt while PyTorch is being imported aborts the process
                import torch
            torch.set_num_threads(cores())  # the number may have been set before PyTorch was imported
        return self.build_network()


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

    def prepare(self, size: int) -> None:
        """Get ready for batches of `size` rows, if that is quick. Called before the first frame is there."""

    def forward(self, rows: Sequence[Any]) -> tuple[Array, Array | None]:
        """Run the network on a batch.

        rows: the input of each row, all of the same structure: an array, an encoding, or nested lists of these
        Returns features float32 (B, …), and logits float32 (B, classes) or None.
        """

    def encode(self, items: Sequence[Array]) -> tuple[list[Any], int]:
        """Run the network's method `encode` on preprocessed items of the same shape.

        Returns the encoding of each item, which only `forward` understands, and the bytes of this machine's memory that
        the encodings keep.
        """


def stack_rows(rows: Sequence[Any], stack: Callable[[Sequence[Any]], Any]) -> Any:
    """Stack rows of the same structure into one batch of that structure, with nested lists.

    stack: stacks the leaves at one place of the structure
    """
    if isinstance(rows[0], (list, tuple)):
        return [stack_rows(parts, stack) for parts in zip(*rows, strict=True)]
    return stack(rows)


def stack_arrays(arrays: Sequence[Array]) -> Array:
    """Stack arrays along a new first axis, in C order. A single array is copied only if it is not contiguous."""
    if len(arrays) == 1:
        return np.ascontiguousarray(arrays[0])[None]
    return np.stack(arrays, out=np.empty((len(arrays), *arrays[0].shape), arrays[0].dtype))


def map_leaves(batch: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to every leaf of nested lists."""
    if isinstance(batch, (list, tuple)):
        return [map_leaves(element, function) for element in batch]
    return function(batch)


def leaves_of(batch: Any) -> Iterator[Any]:
    """Yield every leaf of nested lists. None is skipped."""
    if isinstance(batch, (list, tuple)):
        for element in batch:
            yield from leaves_of(element)
    elif batch is not None:
        yield batch


def bytes_of(array: Array) -> int:
    """Return the memory that an array keeps, which may be more than the array shows of it."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.nbytes
