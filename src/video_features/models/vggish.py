"""VGGish: sound, a vector for each 0.96 s of it.

Hershey et al.: CNN Architectures for Large-Scale Audio Classification, 2017, https://arxiv.org/abs/1609.09430. Network,
spectrogram and quantisation follow AudioSet's release (https://github.com/tensorflow/models, research/audioset/vggish);
weights as https://github.com/harritaylor/torchvggish (release v0.1) converted them. That the samples have 16 bits, and
their channels are averaged before they are resampled, follows the reference tool, v-iashin/video_features at
a2f61b7a4cf0.

    vggish   float32 (N, 128): what the last layer gives, after its ReLU; with `post_process` as AudioSet published such
             vectors, in 8 bits: whole numbers 0 … 255
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..errors import SettingsError
from ..extraction import Extractor, Stream, WithHead
from ..settings import FeatureSettings, check_tail, setting, unknown
from ..timeline.rates import as_fraction
from ..timeline.windows import SoundWindow, Window
from ..weights import Weights, digits_in_name, load_strictly, own_or_published, read

log = logging.getLogger(__name__)

RELEASE = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/"
URLS = {"vggish": f"{RELEASE}vggish-10086976.pth", "pca": f"{RELEASE}vggish_pca_params-970ea276.pth"}

RATE = 16_000  # Hz
FRAME = Window(size=400, step=160)  # samples: 25 ms, every 10 ms
FRAMES = 96  # in a row, 0.96 s; the first linear layer is made for so many
FFT_SIZE = 512
BANDS, LOWEST_HZ, HIGHEST_HZ = 64, 125, 7500
LOG_OFFSET = 0.01
LARGEST = 2.0  # that whitened values may be; beyond it they are cut, and so below its negative
LEAST_HOP_SECONDS = 0.01  # from one frame of the spectrogram to the next one


@dataclass(frozen=True, kw_only=True)
class Settings(FeatureSettings):
    weights: dict[str, Path] | None = setting(  # type: ignore[assignment]  # two files, where there is post_process
        None,
        "checkpoint to use instead of the published one, as its authors publish it; weights.pca is post_process's",
        metavar="FILE",
        parts=("vggish", "pca"),
        main_part="vggish",
    )
    hop_seconds: float = setting(
        0.96,
        "seconds from one row's start to the next one's; each row is of 0.96 s, so that with fewer they overlap",
        metavar="SECONDS",
    )
    post_process: bool = setting(False, "whiten and quantise to 0 … 255, as AudioSet's published features are")
    tail: str = setting(
        "drop",
        "what becomes of the sound after the last whole row: drop it, or pad it to a row with silence "
        "(the file NAME_padded_frames tells which rows)",
        metavar="drop|pad",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not LEAST_HOP_SECONDS <= self.hop_seconds < float("inf"):
            raise SettingsError(f"hop_seconds must be at least {LEAST_HOP_SECONDS}, and is {self.hop_seconds}")
        check_tail(self.tail)


def list_models() -> list[str]:
    return list(URLS)


def published_weights(model_name: str) -> Weights:
    if model_name not in URLS:
        raise SettingsError(unknown("network of vggish", model_name, URLS))
    return Weights(
        url=URLS[model_name],
        sha256=digits_in_name(URLS[model_name]),
        paper="https://arxiv.org/abs/1609.09430",
        trained_on="a preliminary version of YouTube-8M",
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    own = settings.weights or {}
    if "pca" in own and not settings.post_process:
        log.warning("vggish does not use weights.pca without post_process")
    embeddings = Stream(
        key="embeddings" if settings.post_process else "vggish",
        model="vggish",
        weights=own_or_published(own.get("vggish"), published_weights("vggish")),
        build_network=_network,
        row_shape=(128,),
        preprocess=log_mel,
    )
    quantised = Stream(
        key="vggish",
        model="vggish pca",
        weights=own_or_published(own.get("pca"), published_weights("pca")),
        weights_setting="weights.pca",
        build_network=_pca,
        row_shape=(128,),
        preprocess=lambda embedding: embedding,
        over=embeddings,
    )
    return Extractor(
        feature="vggish",
        settings=settings,
        streams=[quantised if settings.post_process else embeddings],
        sound=SoundWindow(RATE, FRAME, FRAMES, as_fraction(settings.hop_seconds), settings.tail),
    )


def log_mel(samples: npt.NDArray[np.float32]) -> Tensor:
    """float32 (15600,) at 16 kHz, −1 … 1 → float32 (1, 96, 64): a spectrogram's frames, and 64 mel bands of each."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME.size)[:: FRAME.step]  # (96, 400)
    magnitudes = np.abs(np.fft.rfft(frames * periodic_hann(), FFT_SIZE))  # float64 (96, 257)
    # PyTorch's product, not NumPy's, whose library has threads of its own that wait busily beside all others.
    bands = torch.from_numpy(magnitudes) @ torch.from_numpy(mel_bands())
    return (bands + LOG_OFFSET).log().float()[None]


@cache
def periodic_hann() -> npt.NDArray[np.float64]:
    """(400,): one period of a raised cosine, which would begin anew after the last sample, not with it."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME.size) / FRAME.size)


@cache
def mel_bands() -> npt.NDArray[np.float64]:
    """(257, 64): how much of each frequency is in each band: triangles, which are so on the mel scale."""
    frequencies = mel(np.linspace(0, RATE / 2, FFT_SIZE // 2 + 1))[:, None]
    edges = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    return np.maximum(0, np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre)))


def mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """HTK's scale."""
    return 1127 * np.log1p(np.asarray(hertz) / 700)


class Vggish(nn.Module):
    """(B, 1, 96, 64) → (B, 128)"""

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

    def forward(self, examples: Tensor) -> Tensor:
        maps = self.features(examples)  # (B, 512, 6, 4): a sixteenth of the time, a sixteenth of the bands
        channels_last = maps.permute(0, 2, 3, 1)  # as TensorFlow has them
        embeddings: Tensor = self.embeddings(channels_last.flatten(1))
        return embeddings


class Pca(nn.Module):
    """Whitens and quantises embeddings (B, 128) to whole numbers 0 … 255."""

    pca_eigen_vectors: Tensor
    pca_means: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pca_eigen_vectors", torch.empty(128, 128))
        self.register_buffer("pca_means", torch.empty(128))

    def forward(self, embeddings: Tensor) -> Tensor:
        whitened = (embeddings - self.pca_means) @ self.pca_eigen_vectors.T
        return ((whitened.clamp(-LARGEST, LARGEST) + LARGEST) * (255 / (2 * LARGEST))).round()


def _convolution(channels: int, filters: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, filters, kernel_size=3, padding=1), nn.ReLU()


def _network(path: Path) -> nn.Module:
    network = Vggish()
    load_strictly(network, read(path), path)
    return WithHead(network, head=None)


def _pca(path: Path) -> nn.Module:
    network, state = Pca(), read(path)
    if (means := state.get("pca_means")) is not None and means.shape == (128, 1):  # as torchvggish has them once loaded
        state["pca_means"] = means.flatten()
    load_strictly(network, state, path)
    return WithHead(network, head=None)
