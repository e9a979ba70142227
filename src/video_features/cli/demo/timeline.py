"""What the demo found in one video, along its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...features import Prediction
from .findings import Label, Similarity, confident_labels, probability, similarity
from .motion import Flow, motion_in
from .watch import Watched

TILE_SECONDS = 1.5  # about: a longer shot gets several pictures


@dataclass(frozen=True)
class Tile:
    """A part of a shot and the frame that stands for it.

    motion: float32 (2, H / 8, W / 8), see `motion_in`
    """

    start_seconds: float
    end_seconds: float
    frame: int
    motion: Flow


@dataclass(frozen=True)
class Timeline:
    """All findings of a video of T frames.

    first_frames: the index of the first frame of each shot
    tiles: cover the video without gaps, in order; none crosses a cut
    probabilities: float64 (T,), of the most probable class of each frame; None if no labels were asked for
    labels: the confident ones
    alike: float64 (T, T), the cosine similarity of the features of each pair of frames
    """

    name: str
    watched: Watched
    first_frames: list[int]
    tiles: list[Tile]
    probabilities: npt.NDArray[np.float64] | None
    labels: list[Label]
    alike: Similarity

    @property
    def cut_seconds(self) -> list[float]:
        return [float(self.watched.starts[first]) for first in self.first_frames[1:]]


def timeline(
    path: Path,
    watched: Watched,
    first_frames: list[int],
    features: npt.NDArray[np.floating],
    predictions: Sequence[Prediction],
    *,
    has_labels: bool,
) -> Timeline:
    """Put together what is known of a video. features: (T, D). predictions: one per frame"""
    probabilities = np.array([probability(row) for row in predictions])
    return Timeline(
        path.name,
        watched,
        first_frames,
        list(_tiles(path, watched, first_frames, probabilities)),
        probabilities if has_labels else None,
        confident_labels(predictions) if has_labels else [],
        similarity(features),
    )


def _tiles(
    path: Path, watched: Watched, first_frames: list[int], probabilities: npt.NDArray[np.float64]
) -> Iterator[Tile]:
    edges = [*watched.starts.tolist(), watched.end_seconds]
    parts, spans = [], []
    for first, end in pairwise([*first_frames, len(watched.starts)]):
        count = max(1, round((edges[end] - edges[first]) / TILE_SECONDS))
        for part in np.array_split(np.arange(first, end), count):
            frame = int(part[probabilities[part].argmax()])  # the one that the network is surest of
            before, after = max(first, frame - 2), min(end - 1, frame + 2)
            parts.append((edges[part[0]], edges[part[-1] + 1], frame))
            spans.append((edges[before], edges[after]))
    for (start, stop, frame), motion in zip(parts, motion_in(path, spans), strict=True):
        yield Tile(start, stop, frame, motion)
