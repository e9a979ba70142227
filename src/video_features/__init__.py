"""Extracts features from videos: `extract` processes many videos, `load` returns an extractor for repeated use.

    from video_features import extract
    for outcome in extract("video.mp4", "resnet", model_name="resnet18"):
        print(outcome.features.values["resnet"].shape)

Importing this package imports neither torch nor any model library. A call imports them if it needs them, which a
network that OpenVINO has converted before does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import MediaError, OutputError, SettingsError, VideoFeaturesError, WeightsError

if TYPE_CHECKING:
    from .extraction import Extractor
    from .features import Features, Outcome, Prediction
    from .outputs.read import iter_features, load_features
    from .registry import list_models
    from .runs.jobs import extract, load
    from .runs.planning import Plan, plan
    from .runs.status import Status, status
    from .tasks.lists import read_list
    from .tasks.videos import Video

__all__ = [
    "Extractor",
    "Features",
    "MediaError",
    "Outcome",
    "OutputError",
    "Plan",
    "Prediction",
    "SettingsError",
    "Status",
    "Video",
    "VideoFeaturesError",
    "WeightsError",
    "extract",
    "iter_features",
    "list_models",
    "load",
    "load_features",
    "plan",
    "read_list",
    "status",
]

__version__ = "0.1.0"

_SUBMODULES = {
    "Extractor": "extraction.extractor",
    "Features": "features",
    "Outcome": "features",
    "Plan": "runs.planning",
    "Prediction": "features",
    "Status": "runs.status",
    "Video": "tasks.videos",
    "extract": "runs.jobs",
    "iter_features": "outputs.read",
    "list_models": "registry",
    "load": "runs.jobs",
    "load_features": "outputs.read",
    "plan": "runs.planning",
    "read_list": "tasks.lists",
    "status": "runs.status",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _SUBMODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_SUBMODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
