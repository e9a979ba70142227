"""What features and predictions say about a video: confident labels, and how alike its moments are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from ...features import Prediction

CONFIDENT = 0.7  # a label is shown from this probability on
APART_SECONDS = 1.0  # neighbouring frames are always alike

Similarity = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Label:
    """An object that the network names with confidence. probability: the largest one of these rows, 0 … 1"""

    name: str
    probability: float
    start_seconds: float
    end_seconds: float


def confident_labels(predictions: Sequence[Prediction], threshold: float = CONFIDENT) -> list[Label]:
    """Return the most probable class where it reaches the threshold. Consecutive rows of one class are one label."""
    labels = []
    for name, group in groupby(predictions, key=lambda row: _name(row) if probability(row) >= threshold else None):
        rows = list(group)
        if name is not None:
            labels.append(Label(name, max(map(probability, rows)), rows[0].start_seconds, rows[-1].end_seconds))
    return labels


def best_of_each(labels: Sequence[Label]) -> list[Label]:
    """Return the most probable label of each name, in order of time."""
    best: dict[str, Label] = {}
    for label in sorted(labels, key=lambda label: label.probability):
        best[label.name] = label
    return sorted(best.values(), key=lambda label: label.start_seconds)


def probability(row: Prediction) -> float:
    """Return the probability of the most probable class of a row, 0 … 1."""
    return row.classes[0].probability


def _name(row: Prediction) -> str:
    return row.classes[0].label.split(",")[0]  # ImageNet's labels list synonyms


def similarity(features: npt.NDArray[np.floating]) -> Similarity:
    """Return the cosine similarity of each pair of rows, float64 (N, N) from -1 to 1. features: (N, D)"""
    unit = features.astype(np.float64) / np.linalg.norm(features, axis=1, keepdims=True)
    alike: Similarity = unit @ unit.T
    return alike


def most_alike(
    alike: Similarity, starts: npt.NDArray[np.float64], first_frames: Sequence[int]
) -> tuple[int, int, float] | None:
    """Return the two rows that look most alike, and their similarity.

    They lie in different shots, or, in a video of one shot, at least a second apart. None if there are no such rows.

    alike: (N, N). starts: of the rows, in seconds. first_frames: the first row of each shot
    """
    if len(first_frames) > 1:
        shot = np.searchsorted(first_frames, np.arange(len(starts)), side="right")
        allowed = shot[:, None] < shot[None]
    else:
        allowed = starts[:, None] + APART_SECONDS <= starts[None]
    if not allowed.any():
        return None
    row, column = np.unravel_index(np.where(allowed, alike, -np.inf).argmax(), alike.shape)
    return int(row), int(column), float(alike[row, column])
