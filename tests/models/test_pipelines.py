"""Features of real videos match the saved arrays of the reference.

At the video's own frame rate, the values agree closely. At any other rate, the reference re-encodes the video with
loss, so the tolerances are wider. A frame too late, or BGR instead of RGB, still exceeds the tolerances.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import standin
from conftest import MISTAKES_IN_FLOW
from video_features import Extractor, Features, load
from video_features.extraction import Stream
from video_features.media import frames_of, open_source
from video_features.runtimes.base import leaves_of

pytestmark = [pytest.mark.usefixtures("quick_networks"), pytest.mark.slow]
in_both = pytest.mark.parametrize("runtime", ["torch", "openvino"], indirect=True)

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
    """Return the largest error of each row, relative to the largest value of the oracle row."""
    return np.abs(found - expected).max(axis=1) / np.abs(expected).max(axis=1)


def cosines(found: Rows, expected: Rows) -> Rows:
    return (found * expected).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)


def fraction_nearest_to_own(found: Rows, expected: Rows) -> float:
    """Return the fraction of rows that are nearer to the matching oracle row than to any other oracle row."""
    distances = np.linalg.norm(found[:, None] - expected[None], axis=2)
    return float((distances.argmin(axis=1) == np.arange(len(found))).mean())


@in_both
def test_resnet18_at_the_videos_rate(bikes: Path, standin_file: Callable[[str, str], Path]) -> None:
    case = "bikes|resnet:model_name=resnet18:batch_size=16"
    features = load("resnet", model_name="resnet18", weights=standin_file("resnet", "resnet18")).extract(bikes)
    found, expected = features.values["resnet"], golden(case, "resnet")
    assert found.shape == (250, 512) and found.dtype == np.float32
    assert np.abs(found[::5] - expected).max() <= 1e-3 * np.abs(expected).max()
    assert_times(features, case)


@in_both
def test_timm_at_the_videos_rate_on_real_weights(bikes: Path) -> None:
    case = "bikes|timm:model_name=tf_efficientnet_lite0:batch_size=16"
    features = load("timm", model_name="tf_efficientnet_lite0").extract(bikes)
    found, expected = features.values["timm"], golden(case, "timm")
    assert found.shape == (250, 1280) and found.dtype == np.float32
    assert np.abs(found[::5] - expected).max() <= 1e-3 * np.abs(expected).max()
    assert_times(features, case)


@in_both
@pytest.mark.parametrize("rate", ["extraction_fps=5", "extraction_total=20"])
def test_timm_at_another_rate(bikes: Path, rate: str) -> None:
    case = f"bikes|timm:model_name=tf_efficientnet_lite0:batch_size=16:{rate}"
    name, _, value = rate.partition("=")
    features = load("timm", model_name="tf_efficientnet_lite0", **{name: value}).extract(bikes)
    found, expected = features.values["timm"], golden(case, "timm")
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= 0.95
    assert fraction_nearest_to_own(found, expected) >= 0.95
    assert_times(features, case)


@in_both
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
    assert fraction_nearest_to_own(found, expected) >= 0.95
    assert_times(features, case)


@in_both
def test_resnet18_at_another_rate(bigbuckbunny: Path, standin_file: Callable[[str, str], Path]) -> None:
    case = "bigbuckbunny|resnet:model_name=resnet18:batch_size=16:extraction_fps=3"
    extractor = load("resnet", model_name="resnet18", weights=standin_file("resnet", "resnet18"), extraction_fps=3)
    features = extractor.extract(bigbuckbunny)
    found, expected = features.values["resnet"], golden(case, "resnet")
    assert found.shape == expected.shape
    assert relative_errors(found, expected).max() <= 1e-2
    assert fraction_nearest_to_own(found, expected) >= 0.95
    assert_times(features, case)


@in_both
def test_r21d_at_the_videos_rate(bikes: Path, standin_file: Callable[[str, str], Path]) -> None:
    features = load("r21d", weights=standin_file("r21d", "r2plus1d_18_16_kinetics")).extract(bikes)
    found, expected = features.values["r21d"], golden("bikes|r21d", "r21d")
    assert found.shape == expected.shape == (15, 512) and found.dtype == np.float32
    assert relative_errors(found, expected).max() <= 1e-4
    assert np.allclose(features.timestamps_ms, np.arange(15) * 640)
    assert np.allclose(features.end_timestamps_ms, np.arange(1, 16) * 640)
    assert features.fps == 25


@in_both
@pytest.mark.parametrize(("feature", "fps", "stack"), [("r21d", 10, 16), ("s3d", 25, 64)])
def test_clips_at_another_rate(
    bikes: Path, standin_file: Callable[[str, str], Path], feature: str, fps: int, stack: int
) -> None:
    checkpoint = "r2plus1d_18_16_kinetics" if feature == "r21d" else "s3d"
    features = load(feature, weights=standin_file(feature, checkpoint), extraction_fps=fps).extract(bikes)
    # The default rate of S3D is 25 fps. The reference re-encodes the video even if that is the rate of the video.
    expected = golden("bikes|s3d" if feature == "s3d" else "bikes|r21d:extraction_fps=10", feature)
    found = features.values[feature]
    assert found.shape == expected.shape
    assert relative_errors(found, expected).max() <= 1e-2
    assert fraction_nearest_to_own(found, expected) == 1
    assert np.allclose(features.start_seconds, np.arange(len(found)) * stack / fps)


@pytest.fixture(scope="module")
def bikes24(bikes: Path) -> npt.NDArray[np.uint8]:
    with open_source(bikes) as source:
        return np.stack([frame.rgb for frame in itertools.islice(frames_of(source), 24)])


@pytest.fixture
def raft(standin_file: Callable[[str, str], Path]) -> Extractor:
    return load("raft", side_size=128, batch_size=4, weights=standin_file("raft", "raft"), device="cpu")


@pytest.fixture
def i3d(standin_file: Callable[[str, str], Path], flow_cache: dict[tuple[str, ...], Any]) -> Extractor:
    weights = {key: standin_file("i3d", f"i3d_{key}") for key in ("rgb", "flow")}
    weights["raft"] = standin_file("raft", "raft")
    extractor = load("i3d", stack_size=10, step_size=10, weights=weights, device="cpu")
    flow = extractor.streams[1].over
    assert flow is not None
    flow.run.runtime = CachingRuntime(flow.run.runtime, flow_cache)
    return extractor


class CachingRuntime:
    """A runtime that caches results. Several such runtimes may share a cache.

    If another runtime has cached a result, the first result of each method is computed again and compared. The others
    are taken from the cache: two runtimes differ by rounding only.
    """

    def __init__(self, runtime: Any, known: dict[tuple[str, ...], Any]) -> None:
        self._runtime, self._known = runtime, known
        self._compared: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def forward(self, rows: Sequence[Any]) -> Any:
        return self._cached("forward", rows)

    def encode(self, items: Sequence[Any]) -> Any:
        return self._cached("encode", items)

    def _cached(self, method: str, rows: Sequence[Any]) -> Any:
        key = (method, *(hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest() for leaf in leaves_of(rows)))
        if key not in self._known:
            self._known[key] = self.name, getattr(self._runtime, method)(rows)
        origin, result = self._known[key]
        if origin != self.name and method not in self._compared:
            again = getattr(self._runtime, method)(rows)
            for ours, theirs in zip(leaves_of(again[0]), leaves_of(result[0]), strict=True):
                np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-3, atol=1e-3)
            self._compared.add(method)
        return result


@pytest.fixture(scope="module")
def flow_cache() -> dict[tuple[str, ...], Any]:
    """Results of RAFT that all I3D tests share. Computing the flow takes most of the time of each test."""
    return {}


@in_both
def test_raft(bikes24: npt.NDArray[np.uint8], raft: Extractor) -> None:
    case = "bikes24|raft:side_size=128:batch_size=4"
    features = raft.extract(bikes24, source_fps=25)
    found, expected = features.values["raft"], golden(case, "raft")
    assert found.shape == (23, 2, 128, 301) and found.dtype == np.float32
    for row, expected_row in zip((0, 11, 22), expected, strict=True):
        assert np.abs(found[row] - expected_row).max() <= 1e-3 * np.abs(expected_row).max()
    assert features.fps == golden(case, "fps")
    # The reference has a time for every frame, also for the last.
    assert np.allclose(features.timestamps_ms, golden(case, "timestamps_ms")[:-1])
    assert np.allclose(features.end_timestamps_ms, np.arange(2, 25) * 40)


@pytest.mark.parametrize("runtime", ["openvino", "torch"], indirect=True)  # the faster one fills the cache
def test_i3d(bikes24: npt.NDArray[np.uint8], i3d: Extractor) -> None:
    features = i3d.extract(bikes24, source_fps=25)
    assert list(features.values) == ["rgb", "flow"]
    for key, within in (("rgb", 1e-4), ("flow", 5e-3)):  # I3D rounds flow to 256 levels
        expected = golden("bikes24|i3d:stack_size=10:step_size=10", key)
        assert features.values[key].shape == expected.shape == (2, 1024)
        assert relative_errors(features.values[key], expected).max() <= within
    assert features.timestamps_ms.tolist() == [0, 400]
    assert features.end_timestamps_ms.tolist() == [440, 840]  # flow needs one more frame


@pytest.mark.parametrize("mistake", MISTAKES_IN_FLOW)
def test_a_mistake_in_raft_is_told(
    bikes24: npt.NDArray[np.uint8], raft: Extractor, mistake: Callable[[Stream], None]
) -> None:
    mistake(raft.streams[0])
    (found,) = raft.extract(bikes24[:2], source_fps=25).values["raft"]
    expected = golden("bikes24|raft:side_size=128:batch_size=4", "raft")[0]
    assert np.abs(found - expected).max() > 10 * 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)  # whose flow takes less time
@pytest.mark.parametrize("mistake", MISTAKES_IN_FLOW)
def test_a_mistake_in_the_flow_of_i3d_is_told(
    bikes24: npt.NDArray[np.uint8], i3d: Extractor, mistake: Callable[[Stream], None]
) -> None:
    i3d.streams = [stream] = i3d.streams[1:]
    flow = stream.over
    assert flow is not None
    right = flow.collate
    mistake(flow)
    mistaken, pairs = flow.collate, itertools.count()
    # Three swapped pairs of ten are enough to be told; the flow of the other seven is in the cache.
    flow.collate = lambda pair: (mistaken if next(pairs) < 3 else right)(pair)
    found = i3d.extract(bikes24[:11], source_fps=25).values["flow"]
    expected = golden("bikes24|i3d:stack_size=10:step_size=10", "flow")[:1]
    assert relative_errors(found, expected).min() > 2 * 5e-3
