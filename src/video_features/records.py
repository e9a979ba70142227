"""What is written beside features, so that they can be traced and compared: weights, versions, the source."""

from __future__ import annotations

import importlib.metadata
import platform
from functools import cache
from typing import Any

from .media import FrameSource
from .weights import LocalWeights

LIBRARIES = ("video_features", "torch", "torchvision", "timm", "open_clip_torch", "av", "pillow", "numpy")


def describe_weights(weights: LocalWeights) -> dict[str, Any]:
    """The checkpoint used, by its digest, and what its publishers say of it."""
    return {
        "sha256": weights.sha256,
        "source": weights.record.source,
        "file": str(weights.path),
        "licence": weights.record.licence,
        "paper": weights.record.paper,
        "trained_on": weights.record.trained_on,
    }


@cache
def versions() -> dict[str, str]:
    """Of Python and of the libraries that the numbers depend on."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in LIBRARIES}}


def describe_source(source: FrameSource) -> dict[str, Any]:
    """The video, by what tells whether it is still the same."""
    end = source.end_seconds
    return {
        "path": source.address,
        "size_bytes": source.size_bytes,
        "duration_seconds": None if end is None else float(end),
        "fps": float(source.fps),
    }
