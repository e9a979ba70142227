"""Chooses the runtime of a network, and defines `Runner`, which runs the network in that runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import SettingsError
from .base import Array, NetworkSpec, Placement, Runtime
from .devices import has_openvino


class Runner:
    """A stream's network in the runtime that the settings request."""

    def __init__(self, network: NetworkSpec, placement: Placement) -> None:
        self.device = placement.device
        self.runtime = choose_runtime(network, placement)

    def __call__(self, rows: Sequence[Any], size: int | None = None) -> tuple[Array, Array | None]:
        """Run the network on a batch. See `Runtime.forward`.

        size: number of rows in a full batch, to which runtimes with `pads` pad the batch
        """
        features, logits = self.runtime.forward(self._padded(rows, size))
        return features[: len(rows)], None if logits is None else logits[: len(rows)]

    def encode(self, items: Sequence[Array], size: int | None = None) -> tuple[list[Any], int]:
        """Run the network's method `encode` on items. See `Runtime.encode`."""
        encodings, held_bytes = self.runtime.encode(self._padded(items, size))
        return encodings[: len(items)], held_bytes

    def _padded(self, rows: Sequence[Any], size: int | None) -> Sequence[Any]:
        if size is None or not self.runtime.pads:
            return rows
        return [*rows, *[rows[-1]] * (size - len(rows))]


def choose_runtime(network: NetworkSpec, placement: Placement) -> Runtime:
    """Return the network in the requested runtime. Raises WeightsError if the weights do not fit."""
    name = runtime_name(placement)
    if name == "openvino":
        from .openvino import OpenVino

        return OpenVino(network, placement, lambda: in_pytorch(network, placement))
    return in_pytorch(network, placement, compiled=name == "compile")


def runtime_name(placement: Placement) -> str:
    """Return the requested runtime: torch, compile or openvino. `auto` chooses the fastest one installed.

    Raises SettingsError if the runtime does not support the device or the precision, or is not installed.
    """
    on_cpu, precision = placement.device.type == "cpu", placement.precision
    if placement.runtime == "auto":
        name = "openvino" if on_cpu and precision != "fp16" and has_openvino() else "torch"
    else:
        name = placement.runtime
    if name == "openvino":
        if not on_cpu:
            device = placement.device
            raise SettingsError(f"runtime=openvino is for the CPU, and the device is {device}: give device=cpu")
        if precision == "fp16":
            raise SettingsError("runtime=openvino computes in fp32 or bf16; precision=fp16 needs runtime=torch")
        if not has_openvino():
            raise SettingsError('runtime=openvino needs an extra: pip install "video_features[openvino]"')
        if precision == "bf16":
            check_bf16()
    return name


def in_words(placement: Placement) -> str:
    """Return the runtime as people call it. Raises SettingsError as `runtime_name` does."""
    return {"torch": "PyTorch", "compile": "torch.compile", "openvino": "OpenVINO"}[runtime_name(placement)]


def check_bf16() -> None:
    """Raise SettingsError if the CPU would compute in bf16 only by emulating it."""
    from .openvino import capabilities

    if "BF16" not in capabilities():
        raise SettingsError(
            "precision=bf16 needs a CPU with bf16 instructions (AVX-512 BF16 or AMX), and this one has none: leave "
            "precision out to compute in fp32, or give runtime=torch, which emulates bf16"
        )


def in_pytorch(network: NetworkSpec, placement: Placement, *, compiled: bool = False) -> Runtime:
    """Return the network in PyTorch, which is imported here because it takes seconds."""
    built = network.build()
    from .pytorch import Compiled, Torch

    return Compiled(built, placement, network.model) if compiled else Torch(built, placement)
