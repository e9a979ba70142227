"""Trouble: the mean of each colour channel of a picture; some pictures hang or crash the process.

A white picture crashes the process, and a black picture hangs the process. A weights file other than the default causes
a warning with the text of the file, and leaves an empty file `loaded_PROCESS` beside the weights. If the text is
`crash`, loading the weights then crashes the process. If the text ends in `together`, loading waits, for at most a
minute, until another process loads the weights too. Environment variables:
TROUBLE_SECONDS: the time that every other picture takes
TROUBLE_TRACE: a file that gets a line for each other picture: the process ID, red (the video) and green (the frame)
"""

from __future__ import annotations

import ctypes
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from families import colour
from video_features.extraction import Extractor, Stream
from video_features.media import RGB
from video_features.settings import FrameSettings
from video_features.weights import Weights, own_or_published

if TYPE_CHECKING:
    from torch import nn

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
        deadline = time.monotonic() + 60
        while path.read_text().endswith("together") and time.monotonic() < deadline:
            if len(list(path.parent.glob("loaded_*"))) > 1:
                break
            time.sleep(0.05)
    return colour.network(path)


def mean(rgb: RGB) -> npt.NDArray[np.float32]:
    if rgb.min() > 250:
        ctypes.string_at(0)
    if rgb.max() < 5:
        time.sleep(3600)
    if trace := os.environ.get("TROUBLE_TRACE"):
        with Path(trace).open("a") as file:
            file.write(f"{os.getpid()} {rgb[0, 0, 0]} {rgb[0, 0, 1]}\n")
    time.sleep(float(os.environ.get("TROUBLE_SECONDS", "0")))
    return rgb.mean(axis=(0, 1)).astype(np.float32)
