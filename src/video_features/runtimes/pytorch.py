"""Runs networks in PyTorch, with or without torch.compile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import in_one_line
from ..settings.declare import PRECISIONS
from .base import Array, Placement, map_leaves, stack_arrays, stack_rows
from .threads import cores
from .timing import timed

log = logging.getLogger(__name__)

DTYPES = dict(zip(PRECISIONS, (torch.float32, torch.bfloat16, torch.float16), strict=True))


class Torch:
    """Runs a network in PyTorch, one pass at a time with all threads. See `Runtime`."""

    pads = False
    max_rows: int | None = None
    _pass_lock = threading.Lock()  # shared by all networks: concurrent passes slow each other down

    def __init__(self, network: nn.Module, placement: Placement) -> None:
        self._placement = placement
        self._device = torch.device(str(placement.device))
        self.network = network.eval().to(self._device)
        if placement.device.type == "cuda":
            channels_last(self.network)
        self.name = f"torch {torch.__version__} {placement.precision} on {placement.device}"

    def prepare(self, size: int) -> None:
        """Do nothing: PyTorch takes batches of any size."""

    def forward(self, rows: Sequence[Any]) -> tuple[Array, Array | None]:
        features, logits = self._run("forward", rows)
        with timed("network"):  # a GPU computes asynchronously: the copy waits for the result
            return _as_array(features), None if logits is None else _as_array(logits)

    def encode(self, items: Sequence[Array]) -> tuple[list[Any], int]:
        output = self._run("encode", items)
        parts = [output] if isinstance(output, Tensor) else output
        held = sum(part.untyped_storage().nbytes() for part in parts if part.device.type == "cpu")
        return list(output) if isinstance(output, Tensor) else list(zip(*output, strict=True)), held

    def _run(self, method: str, rows: Sequence[Any]) -> Any:
        batch = stack_rows(rows, _stack)
        with self._pass_lock, timed("network"), torch.inference_mode(), _all_cores(self._device), self._autocast():
            return self._pass(method, map_leaves(batch, self._to_device))

    def _pass(self, method: str, batch: Any) -> Any:
        return getattr(self.network, method)(batch) if method != "forward" else self.network(batch)

    def _autocast(self) -> torch.autocast:
        placement = self._placement
        if placement.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = placement.tf32
        dtype = DTYPES[placement.precision]
        return torch.autocast(placement.device.type, dtype, enabled=dtype != torch.float32)

    def _to_device(self, batch: Array | Tensor) -> Tensor:
        """Copy a batch to the device. The copy to a GPU is asynchronous: it does not wait for running kernels."""
        if isinstance(batch, Tensor):  # encodings, which have stayed on the device
            return batch.to(self._device, non_blocking=True)
        tensor = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
        if self._device.type != "cuda":
            return tensor.to(self._device)
        moved = tensor.pin_memory().to(self._device, non_blocking=True)
        return moved.contiguous(memory_format=FORMATS.get(moved.dim(), torch.contiguous_format))


def _stack(leaves: Sequence[Any]) -> Array | Tensor:
    return torch.stack(list(leaves)) if isinstance(leaves[0], Tensor) else stack_arrays(leaves)


def _as_array(tensor: Tensor) -> Array:
    array: Array = tensor.float().cpu().numpy()
    return array


@contextmanager
def _all_cores(device: torch.device) -> Iterator[None]:
    """Let PyTorch use all cores in this thread within the block, if the device is a CPU."""
    before = torch.get_num_threads()  # the first call in a thread resets its number of cores to the global one
    if device.type != "cpu" or before == cores():
        yield
        return
    torch.set_num_threads(cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(network: nn.Module) -> nn.Module:
    """Change convolution weights to the channels-last layout, which tensor cores use. The values stay the same."""
    for parameter in network.parameters():
        if parameter.dim() in FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.dim()])
    return network


class Compiled(Torch):
    """Runs a network in PyTorch with torch.compile. See `Runtime`.

    If compilation fails, a warning is logged and the network runs uncompiled.
    """

    pads = True

    def __init__(self, network: nn.Module, placement: Placement, model: str) -> None:
        super().__init__(network, placement)
        self._model = model
        self._compiled: dict[str, Callable[[Any], Any]] = {}
        self.name = f"torch.compile, {self.name}"

    def _pass(self, method: str, batch: Any) -> Any:
        plain = self.network if method == "forward" else getattr(self.network, method)
        if method not in self._compiled:
            self._compiled[method] = torch.compile(plain)
        run = self._compiled[method]
        try:
            return run(batch)
        except Exception as error:  # there is no C++ compiler, or torch.compile does not support the network
            if run is plain:
                raise
            result = plain(batch)  # raises if the error is not due to compilation
            log.warning(
                "%s: torch.compile cannot run the network (%s); running uncompiled", self._model, in_one_line(error)
            )
            self._compiled[method] = plain
            return result
