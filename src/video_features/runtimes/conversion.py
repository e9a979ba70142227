"""Converts networks from PyTorch to OpenVINO. Only this module of the OpenVINO runtime imports PyTorch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from .base import Array, leaves_of, map_leaves

MAX_DIFFERENCE = 0.01  # from PyTorch, relative to the largest value; rounding in fp32 gives less than 0.001
NEGLIGIBLE = 0.001  # in any unit of the outputs: the flow between two equal frames is hardly more than rounding


class FlatMethod(nn.Module):
    """One method of a network with a flat list of inputs instead of nested lists, and outputs without None.

    batch: the structure of nested lists to restore
    """

    def __init__(self, network: nn.Module, method: str, batch: Any) -> None:
        super().__init__()
        self.network = network
        self._method = method
        self._batch = map_leaves(batch, lambda leaf: None)
        self.eval()

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(leaves)
        outputs = getattr(self.network, self._method)(map_leaves(self._batch, lambda _: next(remaining)))
        return tuple(leaves_of(outputs))


def convert(network: FlatMethod, leaves: Sequence[Array]) -> Any:
    """Convert a network's method to an OpenVINO model for batches of this shape."""
    example = tuple(torch.from_numpy(leaf.copy()) for leaf in leaves)
    # A network built in inference mode can be traced only without gradients.
    with torch.no_grad(), warnings.catch_warnings(), _quiet_logging():
        warnings.simplefilter("ignore")  # shapes become constants in the trace, as intended
        # By default, PyTorch runs the network twice more to compare a second trace with the first.
        decoder = TorchScriptPythonDecoder(network, example_input=example, trace_kwargs={"check_trace": False})
        # `openvino.convert_model` would do the same, but send usage data to its makers from a forked process.
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    model.reshape({index: list(leaf.shape) for index, leaf in enumerate(leaves)})
    return model


def check(compiled: Any, network: FlatMethod, leaves: Sequence[Array]) -> None:
    """Raise RuntimeError if a converted network computes something else than PyTorch, before it is cached.

    compiled: the network in fp32, because the rounding of bf16 would hide errors
    """
    with torch.no_grad():
        expected = network(*(torch.from_numpy(leaf.copy()) for leaf in leaves))
    found = compiled.create_infer_request().infer(list(leaves)).to_tuple()
    for theirs, ours in zip(expected, found, strict=True):
        difference = float(np.abs(theirs.numpy() - ours).max(initial=0))
        largest = float(theirs.abs().max()) if theirs.numel() else 0.0
        if difference > MAX_DIFFERENCE * largest + NEGLIGIBLE:  # False where PyTorch gives NaN
            raise RuntimeError(f"its results differ from PyTorch's by {difference:.3g} of {largest:.3g}")


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """Suppress log messages of the tracer, which do not help users, and restore the root logger, which the converter
    reconfigures."""
    root = logging.root
    before, level, handlers = root.manager.disable, root.level, root.handlers.copy()
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.setLevel(level)
        root.handlers[:] = handlers
