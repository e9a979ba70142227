"""Trouble: the mean of each colour of a picture, of which some hang or crash the process that looks at them.

A picture that is all white crashes it, one that is all black hangs it. Weights that say `crash` crash it before it
looks at any; of others that are not its own it warns. Beside either it leaves a file `loaded_PROCESS`. By the
environment:
TROUBLE_SECONDS: how long each other one takes
TROUBLE_TRACE: a file to which each adds a line: the process, and its red and green, which tell the video and the frame
"""

from __future__ import annotations

import ctypes
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from video_features.extraction import Extractor, Stream, WithHead
from video_features.media import RGB
from video_features.settings import FrameSettings
from video_features.weights import Weights, own_or_published

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    pass


def list_models() -> list[str]:
    return []


def build(settings: Settings, *, predict: bool) -> Extractor:
    stream = Stream(
        key="trouble",
        model="trouble",
        weights=own_or_published(settings.weights, Weights(path=Path(__file__))),
        build_network=network,
        row_shape=(3,),
        preprocess=mean,
    )
    return Extractor(feature="trouble", settings=settings, streams=[stream])


def network(path: Path) -> nn.Module:
    if path.suffix != ".py":
        log.warning("these weights are %s", path.read_text())
        (path.parent / f"loaded_{os.getpid()}").touch()
        if path.read_text() == "crash":
            ctypes.string_at(0)
    return WithHead(nn.Identity(), head=None)


def mean(rgb: RGB) -> torch.Tensor:
    if rgb.min() > 250:
        ctypes.string_at(0)
    if rgb.max() < 5:
        time.sleep(3600)
    if trace := os.environ.get("TROUBLE_TRACE"):
        with Path(trace).open("a") as file:
            file.write(f"{os.getpid()} {rgb[0, 0, 0]} {rgb[0, 0, 1]}\n")
    time.sleep(float(os.environ.get("TROUBLE_SECONDS", "0")))
    return torch.tensor(rgb.mean(axis=(0, 1)), dtype=torch.float32)
