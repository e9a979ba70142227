"""What networks are made of, whatever they run in: as every family gives them."""

from __future__ import annotations

from torch import Tensor, nn


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
