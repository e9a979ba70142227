"""Where a network runs: which device there is, and how a batch gets there and back."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
from torch import Tensor, nn

from .errors import SettingsError


class WithHead(nn.Module):
    """A network as every family gives it: features, and logits where it has classes.

    trunk: batch → features (B, D)
    head: features → logits (B, classes); None for a network without classes
    """

    def __init__(self, trunk: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        features = self.trunk(batch)
        return features, None if self.head is None else self.head(features)


class PointwiseHead(nn.Module):
    """A head of 1×1×1 convolutions, for features that were averaged before it: (B, D) → (B, classes)."""

    def __init__(self, convolutions: nn.Module) -> None:
        super().__init__()
        self.convolutions = convolutions

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.convolutions(features[:, :, None, None, None])
        return logits.flatten(1)


class Runner:
    """A network on its device. Batches come from any device; results are float32 and stay on the network's."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.device = device
        self._network: Any = network.eval().to(device)

    def __call__(self, batch: Any) -> tuple[Tensor, Tensor | None]:
        """batch (B, …), or a list of such → features (B, …), logits (B, classes) or None"""
        with torch.inference_mode():
            features, logits = self._network(_on(self.device, batch))
        return features.float(), None if logits is None else logits.float()

    def encode(self, batch: Tensor) -> Any:
        """batch (B, …) → what the network's `encode` makes of it: a tensor (B, …) or several"""
        with torch.inference_mode():
            return self._network.encode(_on(self.device, batch))


def _on(device: torch.device, batch: Any) -> Any:
    """A tensor, or tensors in lists in lists, on the device."""
    return batch.to(device) if isinstance(batch, Tensor) else [_on(device, one) for one in batch]


def release_free_memory() -> None:
    """Give memory that is free, but kept by the C library's allocator, back to the system; where it can, as glibc can.

    Buffers of many sizes come and go for as long as a video lasts, and the gaps between them add up.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def default_batch_size(window_size: int, device: torch.device) -> int:
    """Rows a pass: 1 on a CPU, where more save nothing; on a GPU what holds 64 frames, 16 at most."""
    return 1 if device.type == "cpu" else max(1, min(16, 64 // window_size))


def available_devices() -> list[str]:
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def choose_device(asked: str | None) -> torch.device:
    """The device asked for, or the best there is; SettingsError, listing those that are, if it is not there."""
    available = available_devices()
    if asked is None:
        return torch.device(available[0])
    name = {"cuda": "cuda:0", "gpu": "cuda:0"}.get(asked, asked)
    if name not in available:
        raise SettingsError(f"device {asked!r} is not here: there is {', '.join(available)}")
    return torch.device(name)
