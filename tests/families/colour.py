"""Colour: the mean of each colour channel of a picture, 0 … 255, and the height and width of the picture."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from video_features import registry
from video_features.extraction import Extractor, Stream
from video_features.media import RGB
from video_features.settings import FrameSettings
from video_features.weights import Weights

if TYPE_CHECKING:
    from pytest import MonkeyPatch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    pass


def build(settings: Settings, *, predict: bool) -> Extractor:
    stream = Stream(
        key="colour",
        model="colour",
        weights=Weights(path=Path(__file__)),
        build_network=network,
        row_shape=(5,),
        preprocess=mean_and_size,
    )
    return Extractor(feature="colour", settings=settings, streams=[stream])


def mean_and_size(rgb: RGB) -> npt.NDArray[np.float32]:
    return np.array([*rgb.mean(axis=(0, 1)), *rgb.shape[:2]], np.float32)


def network(path: Path) -> nn.Module:
    from torch import nn

    from video_features.extraction import WithHead

    return WithHead(nn.Identity(), head=None)


def change_stream(monkeypatch: MonkeyPatch, **changes: Any) -> None:
    """Register the family `colour` with these fields of its stream changed."""
    original = build

    def changed(settings: Settings, *, predict: bool) -> Extractor:
        extractor = original(settings, predict=predict)
        for name, value in changes.items():
            setattr(extractor.streams[0], name, value)
        return extractor

    monkeypatch.setattr(sys.modules[__name__], "build", changed)
    modules = {**registry._modules(), "colour": __name__}
    monkeypatch.setattr(registry, "_modules", lambda: modules)
