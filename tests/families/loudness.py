"""Loudness: the root mean square of every tenth of a second of sound."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from families.colour import network
from video_features.extraction import Extractor, Stream
from video_features.settings import SoundSettings
from video_features.timeline.windows import SoundWindow, Window
from video_features.weights import Weights

TENTH = SoundWindow(16_000, Window(160, 160), frames=10, step_seconds=Fraction(1, 10))


@dataclass(frozen=True, kw_only=True)
class Settings(SoundSettings):
    pass


def build(settings: Settings, *, predict: bool) -> Extractor:
    stream = Stream(
        key="loudness",
        model="loudness",
        weights=Weights(path=Path(__file__)),
        build_network=network,
        row_shape=(1,),
        preprocess=loudness,
    )
    return Extractor(feature="loudness", settings=settings, streams=[stream], sound=TENTH)


def loudness(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.array([np.sqrt(np.mean(samples**2))])
