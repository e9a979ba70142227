"""Weights of networks: downloads, verifies and strictly loads checkpoints."""

from ..cache import remembered
from ..errors import WeightsError
from .checkpoint import Others, StateDict, check_finite, load_strictly, read, unreadable
from .obtain import REFERENCE_FILES, LocalWeights, Weights, digits_in_name, own_or_published

__all__ = [
    "REFERENCE_FILES",
    "LocalWeights",
    "Others",
    "StateDict",
    "Weights",
    "WeightsError",
    "check_finite",
    "digits_in_name",
    "load_strictly",
    "own_or_published",
    "read",
    "remembered",
    "unreadable",
]
