"""VGGish: sound features of a YouTube-8M network, one vector per 0.96 s of sound.

Network, spectrogram and quantisation follow AudioSet's release (https://github.com/tensorflow/models,
research/audioset/vggish). The weights were converted by https://github.com/harritaylor/torchvggish (release v0.1). As
in the reference tool, v-iashin/video_features at a2f61b7a4cf0, samples are reduced to 16 bits, and channels are
averaged before resampling.

    vggish   float32 (N, 128): the output of the last layer, after its ReLU; with `post_process`, whitened and
             quantised to whole numbers 0 … 255, the 8-bit format of AudioSet's published features
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import SettingsError
from ..extraction import Card, Extractor, Paper, SoundWindow, Stream, Window
from ..settings import Bounds, SoundSettings, check_tail, setting, unknown
from ..timeline.rates import as_fraction
from ..weights import Weights, digits_in_name, own_or_published

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

PAPER = Paper(
    key="hershey2017cnn",
    title="CNN Architectures for Large-Scale Audio Classification",
    authors="Hershey, Shawn and Chaudhuri, Sourish and Ellis, Daniel P. W. and Gemmeke, Jort F. and Jansen, Aren and "
    "Moore, R. Channing and Plakal, Manoj and Platt, Devin and Saurous, Rif A. and Seybold, Bryan and "
    "Slaney, Malcolm and Weiss, Ron J. and Wilson, Kevin",
    venue="IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)",
    year=2017,
    url="https://arxiv.org/abs/1609.09430",
)
CARD = Card(row="0.96 s of sound: the output of the network's last layer, after its ReLU.", papers=(PAPER,))
RELEASE = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/"
URLS = {"vggish": f"{RELEASE}vggish-10086976.pth", "pca": f"{RELEASE}vggish_pca_params-970ea276.pth"}

SAMPLE_RATE_HZ = 16_000
STFT_WINDOW = Window(size=400, step=160)  # samples: 25 ms, every 10 ms
FRAMES_PER_ROW = 96  # 0.96 s; the first linear layer has a fixed input size
FFT_SIZE = 512
BANDS, LOWEST_HZ, HIGHEST_HZ = 64, 125, 7500
LOG_OFFSET = 0.01


@dataclass(frozen=True, kw_only=True)
class Settings(SoundSettings):
    weights: dict[str, Path] | None = setting(  # type: ignore[assignment]  # two files with post_process
        None,
        "Checkpoint to load instead of the published one, in the authors' own format; weights.pca is the file for "
        "post_process.",
        metavar="FILE",
        parts=("vggish", "pca"),
        main_part="vggish",
    )
    hop_seconds: float = setting(
        0.96,
        "Seconds from the start of one row to the start of the next. A row covers 0.96 s, so shorter hops make rows "
        "overlap.",
        metavar="SECONDS",
        # The step between spectrogram frames; a row a day is the longest hop.
        bounds=Bounds(0.01, 24 * 3600, "from the step of the spectrogram, 0.01 s, to a row per day"),
    )
    post_process: bool = setting(
        False, "Whiten and quantise the features to 0 … 255, like AudioSet's published features."
    )
    tail: str = setting(
        "drop",
        "Sound left over after the last full row: drop it, or pad it to a full row with silence. With pad, the file "
        "NAME_padded_frames counts the spectrogram frames of each row that reach past the end of the sound.",
        metavar="drop|pad",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_tail(self.tail)


def list_models() -> list[str]:
    return list(URLS)


def published_weights(model_name: str) -> Weights:
    if model_name not in URLS:
        raise SettingsError(unknown("network of vggish", model_name, URLS))
    return Weights(
        url=URLS[model_name],
        sha256=digits_in_name(URLS[model_name]),
        paper=PAPER.url,
        trained_on="a preliminary version of YouTube-8M",
    )


def build(settings: Settings, *, predict: bool) -> Extractor:
    own_weights = settings.weights or {}
    if "pca" in own_weights and not settings.post_process:
        log.warning("vggish does not use weights.pca without post_process")
    embeddings = Stream(
        key="embeddings" if settings.post_process else "vggish",
        model="vggish",
        weights=own_or_published(own_weights.get("vggish"), published_weights("vggish")),
        build_network=_network,
        row_shape=(128,),
        preprocess=log_mel,
    )
    quantised = Stream(
        key="vggish",
        model="vggish pca",
        weights=own_or_published(own_weights.get("pca"), published_weights("pca")),
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
        sound=SoundWindow(
            SAMPLE_RATE_HZ, STFT_WINDOW, FRAMES_PER_ROW, as_fraction(settings.hop_seconds), settings.tail
        ),
    )


def log_mel(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Compute the log-mel spectrogram of a row, from mono sound at 16 kHz: 25 ms windows every 10 ms, 64 bands.

    float32 (15600,) at 16 kHz in −1 … 1 → float32 (1, 96, 64): 96 frames of 64 mel bands
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, STFT_WINDOW.size)[:: STFT_WINDOW.step]  # (96, 400)
    magnitudes = np.abs(np.fft.rfft(frames * periodic_hann(), FFT_SIZE))  # float64 (96, 257)
    frequencies, weights, starts = band_weights()
    # Not a matrix product: the BLAS library of NumPy has a thread pool of its own, whose threads busy-wait and compete
    # with all other threads. Few weights are not 0.
    bands = np.add.reduceat(magnitudes[:, frequencies] * weights, starts, axis=1)  # (96, 64)
    spectrogram: npt.NDArray[np.float32] = np.log(bands + LOG_OFFSET).astype(np.float32)[None]
    return spectrogram


@cache
def band_weights() -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Return the weights of `mel_bands` that are not 0, band by band: their frequencies, the weights, and the index at
    which each band starts."""
    bands = mel_bands().T
    band, frequencies = bands.nonzero()
    return frequencies, bands[band, frequencies], np.searchsorted(band, np.arange(BANDS))


@cache
def periodic_hann() -> npt.NDArray[np.float64]:
    """Return the periodic Hann window, float64 (400,): the next period starts after the last sample, not at it."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(STFT_WINDOW.size) / STFT_WINDOW.size)


@cache
def mel_bands() -> npt.NDArray[np.float64]:
    """Return the mel filter bank, float64 (257, 64): frequencies × bands. Filters are triangular on the mel scale."""
    frequencies = mel(np.linspace(0, SAMPLE_RATE_HZ / 2, FFT_SIZE // 2 + 1))[:, None]
    edges = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    return np.maximum(0, np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre)))


def mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Convert Hz to mel, with HTK's formula."""
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def _network(path: Path) -> nn.Module:
    from ..networks.vggish import load

    return load(path)


def _pca(path: Path) -> nn.Module:
    from ..networks.vggish import load_pca

    return load_pca(path)
