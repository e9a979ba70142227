"""Colour: the mean of each colour channel of a picture, 0 … 255, and the height and width of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from video_features.extraction import Extractor, Stream, WithHead
from video_features.media import RGB
from video_features.settings import FrameSettings
from video_features.weights import Weights


@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    pass


def build(settings: Settings, *, predict: bool) -> Extractor:
    stream = Stream(
        key="colour",
        model="colour",
        weights=Weights(path=Path(__file__)),
        build_network=lambda path: WithHead(nn.Identity(), head=None),
        row_shape=(5,),
        preprocess=mean_and_size,
    )
    return Extractor(feature="colour", settings=settings, streams=[stream])


def mean_and_size(rgb: RGB) -> torch.Tensor:
    return torch.tensor([*rgb.mean(axis=(0, 1)), *rgb.shape[:2]], dtype=torch.float32)
