"""A family from another package needs only one module and an entry point. Rows are checked by arithmetic."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from conftest import grey_levels, write_video
from video_features import extract, list_models, load, plan, registry
from video_features.cli import reference as reference_cli
from video_features.cli.main import cli

FAMILY = '''
"""Motion: how bright a clip is, and how fast its brightness changes; a made-up family."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torchvision.transforms.functional import to_tensor

from video_features.extraction import Extractor, Stream, Window, WithHead, as_clip
from video_features.settings import ClipSettings, SettingsError, setting, unknown
from video_features.weights import Weights


class Mean(nn.Module):
    def forward(self, clips):  # (B, C, T, H, W)
        return clips.mean(dim=(2, 3, 4))


class Change(nn.Module):
    def forward(self, pairs):  # (B, C, 2, H, W)
        return pairs[:, :, 1] - pairs[:, :, 0]


@dataclass(frozen=True, kw_only=True)
class Settings(ClipSettings):
    model_name: str = setting("grey/one", "grey/one or grey/two", metavar="NAME")
    stack_size: int = setting(3, "frames in a row")
    step_size: int = setting(3, "frames from row to row")


def list_models():
    return ["grey/one", "grey/two"]


def published_weights(model_name):
    if model_name not in list_models():
        raise SettingsError(unknown("motion model_name", model_name, list_models()))
    return Weights(path=Path(__file__))


def build(settings, *, predict):
    def stream(key, network, row_shape, **options):
        weights = published_weights(settings.model_name)
        network = WithHead(network, None)
        return Stream(
            key=key, model="grey", weights=weights, build_network=lambda path: network, row_shape=row_shape, **options
        )

    size, step = settings.stack_size, settings.step_size
    change = stream(
        "between", Change(), (3, 48, 64), preprocess=to_tensor, window=Window(2, 1), collate=as_clip
    )
    return Extractor(
        feature="motion",
        settings=settings,
        streams=[
            stream(
                "brightness",
                Mean(),
                (3,),
                preprocess=to_tensor,
                window=Window(size + 1, step, settings.tail),
                collate=lambda frames: as_clip(frames[:-1]),
            ),
            stream(
                "change",
                Mean(),
                (3,),
                over=change,
                preprocess=lambda row: row,
                window=Window(size, step, settings.tail),
                collate=as_clip,
            ),
        ],
    )
'''


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with one family and an entry point, as pip would."""
    site = tmp_path / "site"
    (site / "motion-1.0.dist-info").mkdir(parents=True)
    (site / "motion_family.py").write_text(FAMILY)
    (site / "motion-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: motion\nVersion: 1.0\n")
    (site / "motion-1.0.dist-info" / "entry_points.txt").write_text(
        "[video_features.families]\nmotion = motion_family\nbroken = nowhere.to_be_found\n"
    )
    monkeypatch.syspath_prepend(site)
    registry._modules.cache_clear()
    yield
    registry._modules.cache_clear()
    sys.modules.pop("motion_family", None)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Eleven grey pictures, encoded without loss. Picture k has the level 16 + 6k."""
    return write_video(tmp_path / "a.mkv", grey_levels(11), codec="ffv1", pix_fmt="bgr0")


def run_command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def level(picture: float) -> float:
    return (16 + 6 * picture) / 255


def test_it_appears_wherever_families_do(video: Path, tmp_path: Path) -> None:
    line = "motion             Motion: how bright a clip is"
    assert line in run_command("models").output and line in run_command("extract", "--help").output
    assert run_command("models", "motion").output.split() == list_models("motion") == ["grey/one", "grey/two"]
    assert "--stack-size" in run_command("extract", "motion", "--help").output
    (outcome,) = extract(video, "motion")
    assert outcome.features is not None and set(outcome.features.values) == {"brightness", "change"}
    assert run_command("extract", "motion", video, "--output-path", tmp_path / "ours").exit_code == 0
    words = ["feature_type=motion", f"video_paths={video}", "on_extraction=save_numpy"]
    assert reference_cli.main([*words, f"output_path={tmp_path / 'theirs'}"]) == 0
    for folder in ("ours", "theirs"):
        for key, array in outcome.features.values.items():
            assert np.array_equal(np.load(tmp_path / folder / "motion" / "grey_one" / f"a_{key}.npy"), array)


def test_one_that_cannot_be_imported_is_told_and_the_others_work(video: Path) -> None:
    assert "broken             (not installed)" in run_command("models").output
    failed = run_command("extract", "broken", video)
    assert (
        failed.exit_code == 2 and "broken: its package cannot be imported (No module named 'nowhere'" in failed.stderr
    )
    listed = run_command("weights", "verify")
    assert listed.exit_code == 0 and "motion grey/one" in listed.stdout
    everything = list_models()
    assert isinstance(everything, dict) and "motion" in everything and "broken" not in everything


@pytest.mark.parametrize(
    ("size", "step", "tail", "starts", "padding"),
    [
        (3, 3, "drop", [0, 3, 6], None),
        (4, 2, "drop", [0, 2, 4, 6], None),
        (2, 5, "drop", [0, 5], None),
        (4, 4, "pad", [0, 4, 8], [0, 0, 2]),
        (5, 2, "pad", [0, 2, 4, 6], [0, 0, 0, 1]),
        (20, 20, "pad", [0], [10]),
        (3, 5, "pad", [0, 5], [0, 0]),  # frame 10 starts a stack, but has no next frame
        (4, 5, "pad", [0, 5], [0, 0]),
    ],
)
def test_streams_of_frames_and_of_other_rows_go_together(
    video: Path, size: int, step: int, tail: str, starts: list[int], padding: list[int] | None
) -> None:
    extractor = load("motion", stack_size=size, step_size=step, tail=tail)
    calls = [0]
    extractor.streams[1].chain()[0].run.runtime.network.register_forward_hook(
        lambda *_: calls.__setitem__(0, calls[0] + 1)
    )
    features = extractor.extract(video)
    in_windows = {pair for start in starts for pair in range(start, start + size) if pair < 10}
    assert calls == [len(in_windows)], "each pair in a row must be computed once, and no other pair"
    assert features.start_seconds.tolist() == [start / 25 for start in starts]
    ends = [min(start + size + 1, 11) / 25 for start in starts]
    assert features.end_seconds.tolist() == pytest.approx(ends, abs=1e-3)  # Matroska times are in milliseconds
    brightness = [np.mean([level(min(start + k, 10)) for k in range(size)]) for start in starts]
    assert np.allclose(features.values["brightness"], np.array(brightness)[:, None], atol=1e-6)
    assert np.allclose(features.values["change"], 6 / 255, atol=1e-6)
    if padding is None:
        assert features.padded_frames is None
    else:
        assert features.padded_frames is not None and features.padded_frames.tolist() == padding


def test_rows_do_not_depend_on_the_batch(video: Path) -> None:
    one, many = (load("motion", step_size=1, batch_size=size).extract(video) for size in (1, 3))
    for key, rows in one.values.items():
        assert np.allclose(rows, many.values[key], atol=1e-6) and rows.any()
    assert one.start_seconds.tolist() == many.start_seconds.tolist()


def test_a_plan_counts_rows_through_both_streams(video: Path) -> None:
    pad_with_a_gap = {"tail": "pad", "stack_size": 3, "step_size": 5}
    for settings in ({}, {"tail": "pad"}, pad_with_a_gap, {"stack_size": 2, "step_size": 3}, {"extraction_fps": 60}):
        (planned,) = plan(video, "motion", **settings)
        values = load("motion", **settings).extract(video).values
        assert planned.shapes == {"motion": {key: array.shape for key, array in values.items()}}


def test_the_least_number_of_frames_counts_both_streams(tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.mkv", grey_levels(5), codec="ffv1", pix_fmt="bgr0")
    (outcome,) = extract(short, "motion", stack_size=5)
    assert outcome.status == "failed"
    assert "too short for motion: 5 frames, and one row needs at least 6 frames; tail=pad (--tail" in outcome.reason
    long_enough = write_video(tmp_path / "long.mkv", grey_levels(6), codec="ffv1", pix_fmt="bgr0")
    assert len(load("motion", stack_size=5).extract(long_enough)) == 1


def test_frames_in_gaps_and_in_a_tail_that_is_dropped_are_not_prepared(video: Path) -> None:
    extractor = load("motion", stack_size=1, step_size=5)
    prepared = []
    stream: Any = extractor.streams[0]
    prepare = stream.preprocess
    stream.preprocess = lambda rgb: prepared.append(rgb[0, 0, 0]) or prepare(rgb)
    extractor.extract(video)
    assert sorted(prepared) == [16 + 6 * k for k in (0, 1, 5, 6)]
