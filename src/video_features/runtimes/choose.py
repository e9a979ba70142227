"""Which runtime a network gets, and the network in it: `Runner`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .base import NetworkSpec, Placement, Runtime, has_openvino, over_tensors, tensors_of
from .pytorch import Compiled, Torch


class Runner:
    """A stream's network in the runtime that its settings ask for. Batches come from any device; results are float32
    and stay on the network's."""

    def __init__(self, network: NetworkSpec, placement: Placement) -> None:
        self.device = placement.device
        self.runtime = choose_runtime(network, placement)

    def __call__(self, batch: Any, size: int | None = None) -> tuple[Tensor, Tensor | None]:
        """batch (B, …), or a list of such → features (B, …), logits (B, classes) or None

        size: of a full batch
        """
        features, logits = self._run("forward", batch, size)
        return features.float(), None if logits is None else logits.float()

    def encode(self, batch: Any, size: int | None = None) -> Any:
        """batch (B, …) → what the network's `encode` makes of it: a tensor (B, …) or several"""
        return self._run("encode", batch, size)

    def _run(self, method: str, batch: Any, size: int | None) -> Any:
        count = len(next(tensors_of(batch)))
        if size is None or count == size or not self.runtime.pads:
            return self.runtime(method, batch)
        full = over_tensors(batch, lambda one: torch.cat([one, one[-1:].expand(size - count, *one.shape[1:])]))
        return over_tensors(self.runtime(method, full), lambda one: one[:count])


def choose_runtime(network: NetworkSpec, placement: Placement) -> Runtime:
    """The runtime asked for; `auto` is the fastest that is here. Raises WeightsError where the weights do not fit."""
    on_cpu, runtime = placement.device.type == "cpu", placement.runtime
    if runtime == "auto":
        runtime = "openvino" if on_cpu and placement.precision == "fp32" and has_openvino() else "torch"
    if runtime == "openvino":
        from .openvino import OpenVino

        return OpenVino(network, lambda: Torch(network.build(), placement))
    if runtime == "compile":
        return Compiled(network.build(), placement, network.model)
    return Torch(network.build(), placement)
