"""PyTorch as a runtime, with or without torch.compile."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import in_one_line
from ..settings.declare import PRECISIONS
from ..timing import timed
from .base import Placement, over_tensors
from .threads import all_threads

log = logging.getLogger(__name__)

DTYPES = dict(zip(PRECISIONS, (torch.float32, torch.bfloat16, torch.float16), strict=True))


class Torch:
    """PyTorch, one pass at a time, with all threads. See `Runtime`."""

    pads = False
    most_rows: int | None = None
    _turn = threading.Lock()  # of all networks: two at once would be in each other's way

    def __init__(self, network: nn.Module, placement: Placement) -> None:
        self._placement = placement
        self.network = network.eval().to(placement.device)
        if placement.device.type == "cuda":
            channels_last(self.network)
        self.name = f"torch {torch.__version__} {placement.precision} on {placement.device}"

    def __call__(self, method: str, batch: Any) -> Any:
        where = self._placement
        with self._turn, timed("network"), torch.inference_mode(), all_threads(where.device), self._rounding():
            return self._pass(method, over_tensors(batch, self._there))

    def _pass(self, method: str, batch: Any) -> Any:
        return getattr(self.network, method)(batch) if method != "forward" else self.network(batch)

    def _rounding(self) -> torch.autocast:
        where = self._placement
        if where.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = where.tf32
        dtype = DTYPES[where.precision]
        return torch.autocast(where.device.type, dtype, enabled=dtype != torch.float32)

    def _there(self, tensor: Tensor) -> Tensor:
        """On the device; the copy does not wait for what is under way there."""
        if self._placement.device.type != "cuda" or tensor.is_cuda:
            return tensor.to(self._placement.device)
        moved = tensor.pin_memory().to(self._placement.device, non_blocking=True)
        return moved.contiguous(memory_format=FORMATS.get(moved.dim(), torch.contiguous_format))


FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(network: nn.Module) -> nn.Module:
    """Lay out the weights of its convolutions as tensor cores take them; their values stay the same."""
    for parameter in network.parameters():
        if parameter.dim() in FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.dim()])
    return network


class Compiled(Torch):
    """PyTorch with torch.compile; without it, telling so, where it cannot be. See `Runtime`."""

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
        except Exception as error:  # there is no C++ compiler, or it does not take this network
            if run is plain:
                raise
            result = plain(batch)  # raises where it is not the compilation's fault
            log.warning("%s: torch.compile cannot take it (%s): it runs without", self._model, in_one_line(error))
            self._compiled[method] = plain
            return result
