"""VGGish's network and the PCA of AudioSet's features, with the names of torchvggish.

Hershey et al.: CNN Architectures for Large-Scale Audio Classification, 2017, https://arxiv.org/abs/1609.09430. Network
and quantisation follow AudioSet's release (https://github.com/tensorflow/models, research/audioset/vggish); the weights
were converted by https://github.com/harritaylor/torchvggish (release v0.1).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ..weights import load_strictly, read
from .heads import WithHead

WHITENED_LIMIT = 2.0  # whitened values are clipped to ±2 before quantisation


class Vggish(nn.Module):
    """The VGGish network: log-mel spectrograms (B, 1, 96, 64) → embeddings (B, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(*_convolution(1, 64), nn.MaxPool2d(2)),
            *(*_convolution(64, 128), nn.MaxPool2d(2)),
            *(*_convolution(128, 256), *_convolution(256, 256), nn.MaxPool2d(2)),
            *(*_convolution(256, 512), *_convolution(512, 512), nn.MaxPool2d(2)),
        )
        self.embeddings = nn.Sequential(
            *(nn.Linear(6 * 4 * 512, 4096), nn.ReLU()),
            *(nn.Linear(4096, 4096), nn.ReLU()),
            *(nn.Linear(4096, 128), nn.ReLU()),
        )

    def forward(self, spectrograms: Tensor) -> Tensor:
        maps = self.features(spectrograms)  # (B, 512, 6, 4): time and bands are 16 times smaller
        channels_last = maps.permute(0, 2, 3, 1)  # TensorFlow's layout, for which the linear layers were trained
        embeddings: Tensor = self.embeddings(channels_last.flatten(1))
        return embeddings


class Pca(nn.Module):
    """Whitens embeddings (B, 128) with a PCA and quantises them to whole numbers 0 … 255."""

    pca_eigen_vectors: Tensor
    pca_means: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pca_eigen_vectors", torch.empty(128, 128))
        self.register_buffer("pca_means", torch.empty(128))

    def forward(self, embeddings: Tensor) -> Tensor:
        whitened = (embeddings - self.pca_means) @ self.pca_eigen_vectors.T
        return (
            (whitened.clamp(-WHITENED_LIMIT, WHITENED_LIMIT) + WHITENED_LIMIT) * (255 / (2 * WHITENED_LIMIT))
        ).round()


def _convolution(channels: int, filters: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, filters, kernel_size=3, padding=1), nn.ReLU()


def load(path: Path) -> nn.Module:
    """Build the network from a checkpoint."""
    network = Vggish()
    load_strictly(network, read(path), path)
    return WithHead(network, head=None)


def load_pca(path: Path) -> nn.Module:
    """Build the PCA from a file of tensors or of NumPy arrays."""
    network, state = Pca(), read(path)
    if (means := state.get("pca_means")) is not None and means.shape == (
        128,
        1,
    ):  # the shape in torchvggish after loading
        state["pca_means"] = means.flatten()
    load_strictly(network, state, path)
    return WithHead(network, head=None)
