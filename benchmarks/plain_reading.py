"""What the plain loops read from files, and how they cut it into windows and batches.

PyAV decodes and converts every frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

T = TypeVar("T")
RGB = npt.NDArray[np.uint8]


def frames(video: Path, end_seconds: float | None) -> Iterator[RGB]:
    """Yield every frame as uint8 (H, W, 3), RGB."""
    with av.open(str(video)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            if end_seconds is not None and frame.time is not None and frame.time >= end_seconds:
                return
            yield frame.to_ndarray(format="rgb24")


def read_samples(sound: Path) -> tuple[npt.NDArray[np.float32], int]:
    """Return the mean of the channels, decoded to 16 bits, as float32 (n,) in −1 … 1, and the rate in Hz."""
    with av.open(str(sound)) as container:
        to_16_bits = av.AudioResampler(format="s16")
        pieces = [
            piece.to_ndarray().reshape(piece.samples, -1).mean(axis=1, dtype=np.float32) / np.float32(1 << 15)
            for frame in container.decode(audio=0)
            for piece in to_16_bits.resample(frame)
        ]
        return np.concatenate(pieces), container.streams.audio[0].rate


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def windows(items: Iterable[T], size: int, step: int) -> Iterator[list[T]]:
    """Yield windows of `size` items every `step` items (`step` <= `size`). An incomplete last window is dropped."""
    window: list[T] = []
    for item in items:
        window.append(item)
        if len(window) == size:
            yield window
            window = window[step:]


def stack_frames(pictures: list[Tensor]) -> Tensor:
    """T × (C, H, W) → (C, T, H, W)"""
    return torch.stack(pictures, dim=1)


def channels_first(rgb: RGB) -> Tensor:
    """uint8 (H, W, 3) → uint8 (3, H, W)"""
    return torch.from_numpy(rgb).permute(2, 0, 1)
