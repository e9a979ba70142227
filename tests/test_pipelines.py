"""From a video's file to its rows, against the reference's saved arrays.

At the video's own rate they agree to the digit. At another rate the reference re-encodes the video, lossily, so they
are only near; but a frame too late, or BGR for RGB, is farther than that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import standin
from video_features import Features, load
from video_features.media import open_source

GOLDEN = np.load(standin.GOLDEN / "pipelines.npz")
Rows = npt.NDArray[np.float32]


def golden(case: str, key: str) -> Rows:
    array: Rows = GOLDEN[f"{case}|{key}"]
    return array


def assert_times(features: Features, case: str) -> None:
    assert features.fps == pytest.approx(golden(case, "fps"))
    assert np.allclose(features.timestamps_ms, golden(case, "timestamps_ms"), rtol=0, atol=1e-6)
    assert np.allclose(features.end_timestamps_ms[:-1], golden(case, "timestamps_ms")[1:], rtol=0, atol=1e-6)


def relative_errors(found: Rows, expected: Rows) -> Rows:
    """Of each row, relative to its oracle row's largest value."""
    return np.abs(found - expected).max(axis=1) / np.abs(expected).max(axis=1)


def cosines(found: Rows, expected: Rows) -> Rows:
    return (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)


def nearest_is_own(found: Rows, expected: Rows) -> float:
    """The fraction of rows that are nearer to their own oracle row than to any other."""
    distances = np.linalg.norm(found[:, None] - expected[None], axis=2)
    return float((distances.argmin(axis=1) == np.arange(len(found))).mean())


def test_resnet18_at_the_videos_rate(bikes: Path, standin_file: Callable[[str, str], Path]) -> None:
    case = "bikes|resnet:model_name=resnet18:batch_size=16"
    features = load("resnet", model_name="resnet18", weights=standin_file("resnet", "resnet18")).extract(bikes)
    found, expected = features.values["resnet"], golden(case, "resnet")
    assert found.shape == (250, 512) and found.dtype == np.float32
    assert np.abs(found[::5] - expected).max() <= 1e-3 * np.abs(expected).max()
    assert_times(features, case)


def test_timm_at_the_videos_rate_on_real_weights(bikes: Path) -> None:
    case = "bikes|timm:model_name=tf_efficientnet_lite0:batch_size=16"
    features = load("timm", model_name="tf_efficientnet_lite0").extract(bikes)
    found, expected = features.values["timm"], golden(case, "timm")
    assert found.shape == (250, 1280) and found.dtype == np.float32
    assert np.abs(found[::5] - expected).max() <= 1e-3 * np.abs(expected).max()
    assert_times(features, case)


@pytest.mark.parametrize("rate", ["extraction_fps=5", "extraction_total=20"])
def test_timm_at_another_rate(bikes: Path, rate: str) -> None:
    case = f"bikes|timm:model_name=tf_efficientnet_lite0:batch_size=16:{rate}"
    name, _, value = rate.partition("=")
    features = load("timm", model_name="tf_efficientnet_lite0", **{name: value}).extract(bikes)
    found, expected = features.values["timm"], golden(case, "timm")
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= 0.95
    assert nearest_is_own(found, expected) >= 0.95
    assert_times(features, case)


@pytest.mark.parametrize(("name", "checkpoint", "fps"), [("ViT-B/32", "clip_ViT-B_32", 5), ("RN50", "clip_RN50", 2)])
def test_clip_at_another_rate(
    bikes: Path, standin_file: Callable[[str, str], Path], name: str, checkpoint: str, fps: int
) -> None:
    case = f"bikes|clip:model_name={name}:batch_size=8:extraction_fps={fps}"
    extractor = load("clip", model_name=name, weights=standin_file("clip", checkpoint), extraction_fps=fps)
    features = extractor.extract(bikes)
    found, expected = features.values["clip"], golden(case, "clip")
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= 0.99
    assert nearest_is_own(found, expected) >= 0.95
    assert_times(features, case)


def test_resnet18_at_another_rate(bigbuckbunny: Path, standin_file: Callable[[str, str], Path]) -> None:
    case = "bigbuckbunny|resnet:model_name=resnet18:batch_size=16:extraction_fps=3"
    extractor = load("resnet", model_name="resnet18", weights=standin_file("resnet", "resnet18"), extraction_fps=3)
    features = extractor.extract(bigbuckbunny)
    found, expected = features.values["resnet"], golden(case, "resnet")
    assert found.shape == expected.shape
    assert relative_errors(found, expected).max() <= 1e-2
    assert nearest_is_own(found, expected) >= 0.95
    assert_times(features, case)


def test_r21d_at_the_videos_rate(bikes: Path, standin_file: Callable[[str, str], Path]) -> None:
    features = load("r21d", weights=standin_file("r21d", "r2plus1d_18_16_kinetics")).extract(bikes)
    found, expected = features.values["r21d"], golden("bikes|r21d", "r21d")
    assert found.shape == expected.shape == (15, 512) and found.dtype == np.float32
    assert relative_errors(found, expected).max() <= 1e-4
    assert np.allclose(features.timestamps_ms, np.arange(15) * 640)
    assert np.allclose(features.end_timestamps_ms, np.arange(1, 16) * 640)
    assert features.fps == 25


@pytest.mark.parametrize(("feature", "fps", "stack"), [("r21d", 10, 16), ("s3d", 25, 64)])
def test_clips_at_another_rate(
    bikes: Path, standin_file: Callable[[str, str], Path], feature: str, fps: int, stack: int
) -> None:
    checkpoint = "r2plus1d_18_16_kinetics" if feature == "r21d" else "s3d"
    features = load(feature, weights=standin_file(feature, checkpoint), extraction_fps=fps).extract(bikes)
    # S3D's default rate is 25, and there every rate is one more lossy encoding.
    expected = golden("bikes|s3d" if feature == "s3d" else "bikes|r21d:extraction_fps=10", feature)
    found = features.values[feature]
    assert found.shape == expected.shape
    assert relative_errors(found, expected).max() <= 1e-2
    assert nearest_is_own(found, expected) == 1
    assert np.allclose(features.start_seconds, np.arange(len(found)) * stack / fps)


def test_i3d_rgb(bikes: Path, standin_file: Callable[[str, str], Path]) -> None:
    with open_source(bikes) as source:
        first_24 = np.stack([frame.rgb for frame in itertools.islice(source.frames(), 24)])
    extractor = load("i3d", streams="rgb", stack_size=10, step_size=10, weights=standin_file("i3d", "i3d_rgb"))
    features = extractor.extract(first_24, source_fps=25)
    expected = golden("bikes24|i3d:stack_size=10:step_size=10", "rgb")
    assert features.values["rgb"].shape == expected.shape == (2, 1024)
    assert relative_errors(features.values["rgb"], expected).max() <= 1e-4
    assert features.timestamps_ms.tolist() == [0, 400]
    assert features.end_timestamps_ms.tolist() == [440, 840]  # a stack is a frame longer, for its flow
