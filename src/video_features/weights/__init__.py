"""Weights of networks: downloads, verifies and strictly loads checkpoints."""

from ..errors import WeightsError
from .checkpoint import load_strictly, read
from .obtain import LocalWeights, Weights, digits_in_name, obtain, own_or_published

__all__ = [
    "LocalWeights",
    "Weights",
    "WeightsError",
    "digits_in_name",
    "load_strictly",
    "obtain",
    "own_or_published",
    "read",
]
