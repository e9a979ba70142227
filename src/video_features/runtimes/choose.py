"""Chooses the runtime of a network, and defines `Runner`, which runs the network in that runtime."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import NetworkSpec, Placement, Runtime, has_openvino, over_tensors, tensors_of
from .pytorch import Compiled, Torch


class Runner:
    """A stream's network in the runtime that the settings request.

    Takes batches from any device. Features and logits are float32 on the network's device.
    """

    def __init__(self, network: NetworkSpec, placement: Placement) -> None:
        self.device = placement.device
        self.runtime = choose_runtime(network, placement)

    def __call__(self, batch: Any, size: int | None = None) -> tuple[Tensor, Tensor | None]:
        """batch (B, …), a tensor or nested lists of tensors → features (B, …), logits (B, classes) or None.

        size: number of rows in a full batch, to which runtimes with `pads` pad the batch
        """
        features, logits = self._run("forward", batch, size)
        return features.float(), None if logits is None else logits.float()

    def encode(self, batch: Any, size: int | None = None) -> Any:
        """batch (B, …) → the output of the network's method `encode`: one or several tensors (B, …)."""
        return self._run("encode", batch, size)

    def _run(self, method: str, batch: Any, size: int | None) -> Any:
        count = len(next(tensors_of(batch)))
        if size is None or count == size or not self.runtime.pads:
            return self.runtime(method, batch)
        padded = over_tensors(batch, lambda rows: torch.cat([rows, rows[-1:].expand(size - count, *rows.shape[1:])]))
        return over_tensors(self.runtime(method, padded), lambda rows: rows[:count])


def choose_runtime(network: NetworkSpec, placement: Placement) -> Runtime:
    """Return the network in the requested runtime; `auto` chooses the fastest one installed.

    Raises WeightsError if the weights do not fit.
    """
    on_cpu, runtime = placement.device.type == "cpu", placement.runtime
    if runtime == "auto":
        runtime = "openvino" if on_cpu and placement.precision == "fp32" and has_openvino() else "torch"
    if runtime == "openvino":
        from .openvino import OpenVino

        return OpenVino(network, lambda: Torch(network.build(), placement))
    if runtime == "compile":
        return Compiled(network.build(), placement, network.model)
    return Torch(network.build(), placement)
