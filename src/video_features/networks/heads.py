"""Network modules that the model families share, whatever runtime the networks use."""

from __future__ import annotations

from torch import Tensor, nn


class WithHead(nn.Module):
    """The form of network that every family provides: features, and logits if the network has classes.

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
    """A head of 1×1×1 convolutions for features that are already averaged: (B, D) → (B, classes)."""

    def __init__(self, convolutions: nn.Module) -> None:
        super().__init__()
        self.convolutions = convolutions

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.convolutions(features[:, :, None, None, None])
        return logits.flatten(1)
