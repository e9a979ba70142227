"""Clip features: windows of frames, preprocessing compared with other libraries, settings and weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import torchvision
from torchvision.models.video import R2Plus1D_18_Weights
from torchvision.models.video import s3d as torchvision_s3d

import standin
from conftest import grey_levels, write_video
from video_features import SettingsError, WeightsError, extract, load
from video_features.media import frames_of, open_source
from video_features.models import i3d, r21d, s3d, torchvision_video
from video_features.models._kinetics import kinetics_400

pytestmark = pytest.mark.slow

Standin = Callable[[str, str], Path]
R18 = "r2plus1d_18_16_kinetics"


def picture(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "step", "tail", "starts", "padding"),
    [
        (4, 4, "drop", [0, 4, 8], None),
        (4, 2, "drop", [0, 2, 4, 6, 8, 10], None),
        (4, 7, "drop", [0, 7], None),
        (4, 4, "pad", [0, 4, 8, 12], [0, 0, 0, 2]),
        (4, 7, "pad", [0, 7], [0, 0]),
        (16, 16, "pad", [0], [2]),
    ],
)
def test_rows_are_those_of_their_frames_alone(
    tmp_path: Path, standin_file: Standin, size: int, step: int, tail: str, starts: list[int], padding: list[int] | None
) -> None:
    video = write_video(tmp_path / "a.mp4", grey_levels(14))
    weights = standin_file("r21d", R18)
    features = load("r21d", weights=weights, stack_size=size, step_size=step, tail=tail).extract(video)
    assert features.start_seconds.tolist() == [start / 25 for start in starts]
    assert features.end_seconds.tolist() == [min(start + size, 14) / 25 for start in starts]
    assert (features.padded_frames is None) if padding is None else (features.padded_frames.tolist() == padding)  # type: ignore[union-attr]
    with open_source(video) as source:
        frames = np.stack([frame.rgb for frame in frames_of(source)])
    extractor = load("r21d", weights=weights, stack_size=size)
    for row, start in enumerate(starts):
        own = frames[[min(k, 13) for k in range(start, start + size)]]
        alone = extractor.extract(own, source_fps=25).values["r21d"]
        error = np.abs(alone - features.values["r21d"][row]).max() / np.abs(alone).max()
        assert alone.shape == (1, 512) and error < 1e-6


def test_a_video_shorter_than_a_window_names_the_least_number_of_frames(tmp_path: Path, standin_file: Standin) -> None:
    video = write_video(tmp_path / "short.mp4", grey_levels(10))
    (outcome,) = extract(video, "r21d", weights=standin_file("r21d", R18), output_path=tmp_path / "out")
    assert outcome.status == "failed" and outcome.files == ()
    assert outcome.reason == (
        f"{video}: too short for r21d: 10 frames, and one row needs at least 16 frames; "
        "tail=pad (--tail pad) repeats the last frame to fill the row"
    )
    assert not list((tmp_path / "out").rglob("*.npy"))
    (outcome,) = extract(video, "s3d", weights=standin_file("s3d", "s3d"), extraction_fps=10, stack_size=13)
    assert "too short for s3d: 4 frames at 10 fps, and one row needs at least 13" in outcome.reason
    (outcome,) = extract(video, "i3d", streams="rgb", weights=standin_file("i3d", "i3d_rgb"), stack_size=10)
    assert "10 frames, and one row needs at least 11" in outcome.reason


def test_padded_rows_are_marked_in_a_file_and_read_back(tmp_path: Path, standin_file: Standin) -> None:
    video = write_video(tmp_path / "a.mp4", grey_levels(6))
    settings: dict[str, Any] = {"weights": standin_file("r21d", R18), "stack_size": 4, "output_path": tmp_path / "out"}
    settings["step_size"] = 4
    (done,) = extract(video, "r21d", tail="pad", **settings)
    saved = tmp_path / "out" / "r21d" / R18 / "a_padded_frames.npy"
    assert saved in done.files and np.load(saved).tolist() == [0, 2]
    (skipped,) = extract(video, "r21d", tail="pad", **settings)
    assert skipped.status == "skipped" and skipped.features is not None
    assert skipped.features.padded_frames is not None and skipped.features.padded_frames.tolist() == [0, 2]
    saved.unlink()
    (again,) = extract(video, "r21d", tail="pad", **settings)
    assert again.status == "done" and saved.exists()
    (refused,) = extract(video, "r21d", **settings)
    assert "tail was pad and is drop" in refused.reason
    (replaced,) = extract(video, "r21d", overwrite=True, **settings)
    assert replaced.status == "done" and not saved.exists()


@pytest.mark.parametrize("feature", ["r21d", "s3d"])
def test_arrays_may_be_views(standin_file: Standin, feature: str) -> None:
    frames = np.stack([picture(60 + k, 80)[:60] for k in range(13)])
    extractor = load(feature, weights=standin_file(feature, R18 if feature == "r21d" else "s3d"), stack_size=13)
    expected = extractor.extract(frames[..., ::-1].copy(), source_fps=25).values[feature]
    frozen = frames[..., ::-1]
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(extractor.extract(frozen, source_fps=25).values[feature], expected)


def test_the_same_frames_from_a_file_and_from_an_array(bikes: Path, standin_file: Standin) -> None:
    extractor = load("r21d", weights=standin_file("r21d", R18), step_size=60)
    with open_source(bikes) as source:
        frames = np.stack([frame.rgb for frame in frames_of(source)])
    from_array, from_file = extractor.extract(frames, source_fps=25), extractor.extract(bikes)
    assert len(from_file) == 4
    assert np.array_equal(from_array.values["r21d"], from_file.values["r21d"])
    assert np.array_equal(from_array.start_seconds, from_file.start_seconds)
    assert np.array_equal(from_array.end_seconds, from_file.end_seconds)


@pytest.mark.parametrize("shape", [(272, 640), (640, 272), (112, 112), (128, 171)])
def test_r21d_prepares_frames_as_torchvision_does_but_for_rounding(shape: tuple[int, int]) -> None:
    rgb = picture(*shape)
    theirs = R2Plus1D_18_Weights.KINETICS400_V1.transforms()(torch.from_numpy(rgb).permute(2, 0, 1)[None])[:, 0]
    found = r21d.preprocess(rgb)
    assert found.shape == theirs.shape == (3, 112, 112) and found.dtype == np.float32
    # torchvision resizes integers and rounds. The error is half a grey level over the smallest standard deviation.
    assert np.abs(found - theirs.numpy()).max() < 0.51 / 255 / 0.216


@pytest.mark.parametrize("shape", [(272, 640), (640, 272), (224, 224), (568, 1010), (1010, 568), (100, 90)])
def test_s3d_frames_are_the_centre_at_unit_range_whatever_their_size(shape: tuple[int, int]) -> None:
    height, width = shape
    across = np.linspace(0, 255, width)[None, :].repeat(height, axis=0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, axis=1)
    found = s3d.preprocess(np.stack([across, down, np.zeros(shape)], axis=-1).round().astype(np.uint8))
    assert found.shape == (3, 224, 224) and float(found.min()) >= 0 and float(found.max()) <= 1
    smaller, larger = sorted(shape)
    along, short = (found[0], found[1]) if width == larger else (found[1].T, found[0].T)
    visible = smaller / larger  # the visible fraction of the longer side
    assert float(along[:, 0].mean()) == pytest.approx((1 - visible) / 2, abs=0.01)
    assert float(along[:, -1].mean()) == pytest.approx((1 + visible) / 2, abs=0.01)
    assert float(short[0].mean()) < 0.01 and float(short[-1].mean()) > 0.99
    assert not found[2].any()


def test_i3d_frames_are_resized_by_pil_and_cut_from_the_floor_of_the_middle() -> None:
    rgb = picture(272, 641)
    found = i3d.preprocess_rgb(rgb)
    resized = np.asarray(PIL.Image.fromarray(rgb).resize((603, 256), PIL.Image.Resampling.BILINEAR))  # 603.29…
    expected = resized[16:240, 189:413].transpose(2, 0, 1).astype(np.float64) * 2 / 255 - 1
    assert found.shape == (3, 224, 224)
    assert np.abs(found - expected).max() < 1e-6


def test_s3d_names_are_torchvisions_one_to_one_in_the_same_order() -> None:
    published = standin.state_dict("s3d", "s3d")
    theirs = torchvision_s3d().state_dict()
    assert [s3d.published_name(name) for name in theirs] == list(published)
    assert all(published[s3d.published_name(name)].shape == tensor.shape for name, tensor in theirs.items())


@pytest.mark.parametrize(
    ("feature", "settings", "message"),
    [
        ("s3d", {"stack_size": 12}, "s3d needs a stack_size of at least 13, got 12"),
        ("i3d", {"streams": "rgb", "stack_size": 9}, "i3d needs a stack_size of at least 10, got 9"),
        ("i3d", {"weights": "a.pt"}, "i3d has several networks: give a file for each, weights.rgb=…, weights.flow=…"),
        ("i3d", {"flow_type": "rafd"}, "unknown i3d flow_type 'rafd': did you mean raft?"),
        ("i3d", {"streams": "rbg"}, "unknown i3d streams 'rbg': did you mean rgb?"),
        (
            "i3d",
            {"streams": "rgb", "weights.rbg": "a.pt"},
            "unknown setting of i3d 'weights.rbg': did you mean weights.rgb",
        ),
        ("i3d", {"streams": "rgb", "weights": {"rbg": "a.pt"}}, "unknown setting of i3d 'weights.rbg': did you mean"),
        (
            "i3d",
            {"streams": "rgb", "weights": "a.pt", "weights.rgb": "b.pt"},
            "weights and weights.rgb are mutually exclusive",
        ),
        ("r21d", {"model_name": "r2plus1d_18"}, "unknown r21d model_name 'r2plus1d_18': did you mean"),
        ("r21d", {"tail": "padd"}, "unknown tail 'padd': did you mean pad?"),
        ("r21d", {"step_size": 0}, "step_size must be greater than 0, got 0"),
        ("r21d", {"extraction_total": 5}, "unknown setting of r21d 'extraction_total'"),
        (
            "torchvision_video",
            {"model_name": "r3d"},
            "unknown torchvision_video model_name 'r3d': did you mean r3d_18 or r3d_18.KINETICS400_V1?",
        ),
        (
            "torchvision_video",
            {"model_name": "mvit_v2_s", "stack_size": 32},
            "mvit_v2_s cannot take stack_size=32: it was trained on 16 frames",
        ),
    ],
)
def test_settings_that_cannot_be(feature: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(feature, **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(("fps", "rows"), [("null", 1), ("25", 0)])
def test_s3d_takes_25_frames_a_second_unless_told_null(
    tmp_path: Path, standin_file: Standin, fps: str, rows: int
) -> None:
    video = write_video(tmp_path / "a.mp4", grey_levels(15), fps=Fraction(50))
    (outcome,) = extract(video, "s3d", weights=standin_file("s3d", "s3d"), stack_size=13, extraction_fps=fps)
    if rows:
        assert outcome.features is not None and len(outcome.features) == rows
    else:
        assert "too short for s3d: 8 frames at 25 fps, and one row needs at least 13" in outcome.reason
    default = load("s3d", weights=standin_file("s3d", "s3d"))
    assert default.settings.extraction_fps == 25 and default.streams[0].window.size == 64


@pytest.mark.parametrize("given", ["weights.rgb", "weights", "weights as a mapping"])
def test_a_familys_networks_have_weights_of_their_own(standin_file: Standin, given: str) -> None:
    def settings(path: Path) -> dict[str, Any]:
        return {"weights": {"rgb": path}} if given == "weights as a mapping" else {given: path}

    path = standin_file("i3d", "i3d_rgb")
    assert load("i3d", streams="rgb", **settings(path)).streams[0].local_weights.path == path
    with pytest.raises(WeightsError, match=r"i3d_rgb: no such weights file: nowhere\.pt"):
        load("i3d", streams="rgb", **settings(Path("nowhere.pt")))


@pytest.mark.parametrize(
    ("feature", "settings", "checkpoint"),
    [("r21d", {}, R18), ("s3d", {}, "s3d"), ("i3d", {"streams": "rgb"}, "i3d_rgb")],
)
@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_checkpoints_that_differ_by_one_key_are_refused_by_their_published_names(
    tmp_path: Path, feature: str, settings: dict[str, Any], checkpoint: str, change: str
) -> None:
    state = standin.state_dict(feature, checkpoint)
    key = next(name for name, tensor in reversed(state.items()) if tensor.ndim == 5)
    if change == "missing":
        del state[key]
        message = f"missing: {key}"
    elif change == "extra":
        state["extra.weight"] = torch.zeros(3)
        message = "unexpected: extra.weight"
    else:
        state[key] = state[key][:, :1]
        message = f"wrong shape: {key} "
    torch.save(state, tmp_path / "changed.pt")
    video = write_video(tmp_path / "a.mp4", grey_levels(2))
    with pytest.raises(WeightsError) as error:
        extract(video, feature, weights=tmp_path / "changed.pt", output_path=tmp_path / "out", **settings)
    assert f"{tmp_path / 'changed.pt'}: not the weights of this network; {message}" in str(error.value)
    assert not list((tmp_path / "out").rglob("*.npy"))


def test_predictions_are_kinetics_classes_with_their_time_span(bikes: Path, standin_file: Standin) -> None:
    weights = standin_file("r21d", R18)
    features = load("r21d", weights=weights, extraction_fps=5, show_pred=True).extract(bikes)
    assert features.predictions is not None and len(features.predictions["r21d"]) == len(features) == 3
    state = standin.state_dict("r21d", R18)
    logits = features.values["r21d"] @ state["fc.weight"].numpy().T + state["fc.bias"].numpy()
    for k, row in enumerate(features.predictions["r21d"]):
        assert (row.start_seconds, row.end_seconds) == pytest.approx((k * 3.2, (k + 1) * 3.2))
        assert [one.label for one in row.classes] == [kinetics_400()[index] for index in np.argsort(-logits[k])[:5]]


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "s3d", "mvit_v1_b", "swin3d_t"])
def test_torchvision_networks_give_what_torchvision_computes(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    frames = np.stack([picture(60 + k, 80)[:60] for k in range(16)])
    extractor = load(
        "torchvision_video", model_name=name, weights=tmp_path / "w.pth", stack_size=16, device="cpu", show_pred=True
    )
    features = extractor.extract(frames, source_fps=25)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    clip = weights.transforms()(torch.from_numpy(frames).permute(0, 3, 1, 2))[None]
    with torch.inference_mode():
        (logits,) = network(clip)
    assert features.predictions is not None
    best = logits.topk(5)
    found = features.predictions["torchvision_video"][0].classes
    assert [one.label for one in found] == [weights.meta["categories"][index] for index in best.indices]
    assert np.allclose([one.logit for one in found], best.values, atol=1e-4)
    rows = features.values["torchvision_video"]
    assert rows.shape == (1, *extractor.streams[0].row_shape) and rows.std() > 0


def test_every_video_network_of_torchvision_is_there_with_its_own_window() -> None:
    architectures = torchvision.models.list_models(module=torchvision.models.video)
    names = torchvision_video.list_models()
    assert set(architectures) < set(names) and "swin3d_b.KINETICS400_IMAGENET22K_V1" in names
    for name in architectures:
        extractor = torchvision_video.build(torchvision_video.Settings(model_name=name), predict=True)
        documented = torchvision.models.get_model_weights(name).DEFAULT.meta["_docs"]
        assert f"`clip_len={extractor.streams[0].window.size}`" in documented
        assert extractor.streams[0].window.step == extractor.streams[0].window.size
        assert extractor.streams[0].labels is not None and len(extractor.streams[0].labels) == 400
    other = torchvision_video.published_weights("swin3d_b.KINETICS400_IMAGENET22K_V1")
    assert other.url.endswith("swin3d_b_22k-7c6ae6fa.pth") and other.sha256 == "7c6ae6fa"
    assert other.url != torchvision_video.published_weights("swin3d_b").url
