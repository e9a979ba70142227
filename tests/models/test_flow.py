"""Optical flow: networks compared with torchvision's, work shared between pairs, sizes, files and previews."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from torch.nn.functional import adaptive_avg_pool3d, avg_pool2d
from torchvision.models.optical_flow import RAFT, raft_large, raft_small
from torchvision.utils import flow_to_image

import standin
from conftest import grey_levels, write_video
from video_features import Extractor, MediaError, OutputError, SettingsError, WeightsError, extract, load, plan
from video_features.cli import reference as reference_cli
from video_features.cli.main import cli
from video_features.features import Outcome, Values
from video_features.models import i3d, pwc, raft
from video_features.networks import i3d as i3d_networks
from video_features.networks import pwc as pwc_networks
from video_features.networks import raft as raft_networks
from video_features.outputs.files import FileSink
from video_features.outputs.rows import RowsInFile
from video_features.settings.parse import network_name
from video_features.weights import load_strictly

pytestmark = pytest.mark.slow

Standin = Callable[[str, str], Path]
Frames = npt.NDArray[np.uint8]


def moving(count: int, height: int = 128, width: int = 128) -> Frames:
    """Return a smooth pattern that moves three pixels right and one pixel down per frame."""
    noise = torch.from_numpy(np.random.default_rng(0).random((1, 3, height + 8, width + 8)))
    smooth = avg_pool2d(noise, 9, stride=1)[0].permute(1, 2, 0).numpy()
    pattern = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    return np.stack([np.roll(pattern, (k, 3 * k), axis=(0, 1)) for k in range(count)])


@pytest.fixture
def quick_raft(standin_file: Standin) -> Callable[..., Extractor]:
    weights = standin_file("raft", "raft")
    return lambda **settings: load("raft", weights=weights, device="cpu", **{"num_flow_updates": 1, **settings})


def flow_of(*frames: Frames, extractor: Extractor) -> npt.NDArray[Any]:
    return extractor.extract(np.stack(frames), source_fps=25).values[extractor.feature]


# --- names and parts


def test_every_name_of_the_authors_checkpoint_is_used_once_or_is_an_alias() -> None:
    published = standin.state_dict("raft", "raft")
    ours = raft_large().state_dict()
    used = [raft_networks.published_name(name) for name in ours]
    assert len(used) == len(set(used)) == 169
    assert set(published) == {*used, *raft_networks.ALIASES} and not set(used) & set(raft_networks.ALIASES)
    assert len(raft_networks.ALIASES) == 10 and set(raft_networks.ALIASES.values()) <= set(used)
    assert all(published[raft_networks.published_name(name)].shape == tensor.shape for name, tensor in ours.items())


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "alias missing", "alias shape"])
def test_checkpoints_of_the_authors_that_differ_are_refused(tmp_path: Path, change: str) -> None:
    state = standin.state_dict("raft", "raft")
    key = "module.cnet.layer2.0.norm3.bias" if change.startswith("alias") else "module.fnet.conv2.bias"
    if change.endswith("missing"):
        del state[key]
        message = f"missing: {key}"
    elif change.endswith("shape"):
        state[key] = state[key][:5]
        message = f"wrong shape: {key} (5,), expected "
    else:
        state["module.fnet.conv3.bias"] = state[key]
        message = "unexpected: module.fnet.conv3.bias"
    torch.save(state, tmp_path / "raft.pth")
    with pytest.raises(WeightsError) as error:
        load("raft", weights=tmp_path / "raft.pth")
    assert f"{tmp_path / 'raft.pth'}: not the weights of this network; {message}" in str(error.value)


def test_the_large_networks_checkpoint_is_not_the_small_ones(standin_file: Standin) -> None:
    message = r"raft\.pth: not the weights of this network, but of sintel: give finetuned_on=sintel .*missing: "
    with pytest.raises(WeightsError, match=message):
        load("raft", finetuned_on="raft_small", weights=standin_file("raft", "raft"))


def test_an_alias_is_not_what_is_read() -> None:
    state = standin.state_dict("raft", "raft")
    expected = {name: tensor.clone() for name, tensor in state.items()}
    for alias in raft_networks.ALIASES:
        state[alias] = state[alias] + 1
    network = raft_large()
    load_strictly(
        network, state, Path("raft.pth"), published_name=raft_networks.published_name, aliases=raft_networks.ALIASES
    )
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected[raft_networks.published_name(name)])


@pytest.mark.parametrize(("name", "build"), [("things_v2", raft_large), ("raft_small", raft_small)])
def test_raft_is_torchvisions(tmp_path: Path, name: str, build: Callable[[], RAFT]) -> None:
    torch.manual_seed(0)
    theirs = build().eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    frames = moving(2, 128, 136)
    extractor = load("raft", finetuned_on=name, num_flow_updates=3, weights=tmp_path / "w.pth", device="cpu")
    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    with torch.inference_mode():
        expected = theirs(images[:1], images[1:], num_flow_updates=3)[-1]
    found = flow_of(*frames, extractor=extractor)
    assert float(expected.abs().max()) > 0.1
    assert np.abs(found - expected.numpy()).max() <= 1e-5 * float(expected.abs().max())


def test_the_weights_of_raft_are_torchvisions_and_the_authors_own_are_the_default() -> None:
    assert raft.Settings().finetuned_on == "sintel" and raft.Settings().num_flow_updates == 20
    urls = {name: raft.published_weights(name).url.rpartition("/")[2] for name in raft.list_models()}
    assert urls["sintel"] == "raft_large_C_T_SKHT_V1-0b8c9e55.pth"
    assert urls["kitti"] == "raft_large_C_T_SKHT_K_V1-4a6a5039.pth"
    assert urls["things"] == "raft_large_C_T_V1-22a6c225.pth"
    assert urls["sintel_v2"].startswith("raft_large_C_T_SKHT_V2-")
    assert urls["raft_small"].startswith("raft_small_C_T_V1-")
    assert all(raft.published_weights(name).sha256 in url for name, url in urls.items())
    assert len(urls) == len(set(urls.values())) == 8
    assert i3d.published_weights("raft") == raft.published_weights("sintel")
    assert i3d.published_weights("pwc") == pwc.published_weights("pwc_net_sintel")


def test_fetch_takes_the_default_of_raft_and_all_of_i3d() -> None:
    assert network_name(raft.Settings) == "sintel" and network_name(i3d.Settings) is None
    assert i3d.list_models() == ["i3d_rgb", "i3d_flow", "raft", "pwc"]


@pytest.mark.parametrize("part", ["rgb", "flow", "raft", "pwc"])
def test_missing_weights_of_i3d_name_their_own_setting(
    standin_file: Standin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        "video_features.weights.obtain.check_reachable", lambda url: (_ for _ in ()).throw(OSError("no network"))
    )
    weights = {key: standin_file("i3d", f"i3d_{key}") for key in ("rgb", "flow")}
    weights |= {key: standin_file(key, key) for key in ("raft", "pwc")}
    del weights[part]
    flow_type = "pwc" if part == "pwc" else "raft"
    with pytest.raises(WeightsError, match=rf"or give weights\.{part}=PATH \(--weights\.{part} PATH\)"):
        load("i3d", flow_type=flow_type, weights=weights)


def test_pwc_correlates_with_the_neighbourhood_row_by_row() -> None:
    first, second = (np.random.default_rng(k).standard_normal((2, 3, 5, 6)).astype(np.float32) for k in (0, 1))
    found = pwc_networks.correlation(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    assert found.shape == (2, 81, 5, 6)
    for channel, (down, right) in enumerate((y, x) for y in range(-4, 5) for x in range(-4, 5)):
        for y in range(5):
            for x in range(6):
                inside = 0 <= y + down < 5 and 0 <= x + right < 6
                product = first[:, :, y, x] * second[:, :, y + down, x + right] if inside else np.zeros((2, 3))
                assert np.allclose(found[:, channel, y, x], product.mean(axis=1), atol=1e-6)


# --- work shared between pairs


def count_calls(extractor: Extractor) -> dict[str, int]:
    """Return the running counts of frames that RAFT or PWC-Net encodes and of flow fields that the network computes."""
    counts = {"encoded": 0, "flows": 0}

    def count(what: str) -> Callable[..., None]:
        def hook(_: Any, inputs: tuple[torch.Tensor], output: Any) -> None:
            counts[what] += len(inputs[0])

        return hook

    network = extractor.streams[-1].chain()[0].run.runtime.network
    if isinstance(network, raft_networks.Raft):
        network.parts.feature_encoder.register_forward_hook(count("encoded"))
        network.parts.update_block.register_forward_hook(count("flows"))
        network.updates = 1
    else:
        network.moduleExtractor.register_forward_hook(count("encoded"))
        network.moduleTwo.register_forward_hook(count("flows"))
    return counts


@pytest.mark.parametrize("batch_size", [1, 3, 4, 20])
@pytest.mark.parametrize("feature", ["raft", "pwc"])
def test_n_frames_are_encoded_n_times_for_n_less_one_flows(
    standin_file: Standin, feature: str, batch_size: int
) -> None:
    frames = moving(9)
    weights = standin_file(feature, feature)
    extractor, alone = (load(feature, batch_size=size, weights=weights, device="cpu") for size in (batch_size, 1))
    count_calls(alone)  # sets one flow update, too
    counts = count_calls(extractor)
    together = flow_of(*frames, extractor=extractor)
    assert counts == {"encoded": 9, "flows": 8}
    one_by_one = [flow_of(*frames[k : k + 2], extractor=alone)[0] for k in range(8)]
    assert np.abs(together - one_by_one).max() <= 1e-4 * np.abs(one_by_one).max()


@pytest.fixture
def light_i3d(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make I3D use smaller pictures and a trivial network. A row is the averaged flow of the stack."""
    monkeypatch.setattr(i3d, "RESIZE", type(i3d.RESIZE)(128))
    monkeypatch.setattr(i3d, "CROP_SIZE", 112)
    monkeypatch.setattr(
        i3d_networks.InceptionI3d, "forward", lambda self, clip: adaptive_avg_pool3d(clip, 8).flatten(1)
    )


@pytest.mark.usefixtures("light_i3d")
def test_flow_is_computed_once_also_where_stacks_of_i3d_overlap(standin_file: Standin) -> None:
    weights = {"flow": standin_file("i3d", "i3d_flow"), "raft": standin_file("raft", "raft")}
    extractor = load("i3d", streams="flow", stack_size=10, step_size=2, weights=weights, device="cpu")
    counts = count_calls(extractor)
    features = extractor.extract(moving(15, 64, 64), source_fps=25)
    assert features.values["flow"].shape == (3, 1024)
    assert counts == {"encoded": 15, "flows": 14}
    alone = load("i3d", streams="flow", stack_size=10, weights=weights, device="cpu")
    count_calls(alone)  # sets one flow update, too
    last = alone.extract(moving(15, 64, 64)[4:], source_fps=25).values["flow"]
    assert np.abs(features.values["flow"][2] - last[0]).max() <= 1e-4 * np.abs(last).max()


@pytest.mark.usefixtures("light_i3d")
@pytest.mark.parametrize(
    ("frames", "step", "tail", "flows"), [(24, 10, "drop", 20), (24, 5, "drop", 20), (14, 10, "pad", 13)]
)
def test_flow_that_no_stack_holds_is_not_computed(
    standin_file: Standin, frames: int, step: int, tail: str, flows: int
) -> None:
    weights = {"flow": standin_file("i3d", "i3d_flow"), "pwc": standin_file("pwc", "pwc")}
    settings: dict[str, Any] = {"streams": "flow", "flow_type": "pwc", "stack_size": 10, "weights": weights}
    extractor = load("i3d", step_size=step, tail=tail, device="cpu", **settings)
    counts = count_calls(extractor)
    extractor.extract(moving(frames, 64, 64), source_fps=25)
    assert counts == {"encoded": flows + 1, "flows": flows}


@pytest.mark.usefixtures("light_i3d")
def test_flow_in_gaps_between_stacks_is_not_computed(standin_file: Standin) -> None:
    weights = {"flow": standin_file("i3d", "i3d_flow"), "pwc": standin_file("pwc", "pwc")}
    settings: dict[str, Any] = {"streams": "flow", "flow_type": "pwc", "stack_size": 10, "weights": weights}
    extractor = load("i3d", step_size=14, device="cpu", **settings)
    counts = count_calls(extractor)
    frames = moving(28, 64, 64)
    features = extractor.extract(frames, source_fps=25)
    assert features.start_seconds.tolist() == [0, 14 / 25]
    assert counts == {"encoded": 22, "flows": 20}
    last = load("i3d", device="cpu", **settings).extract(frames[14:25], source_fps=25).values["flow"]
    assert np.abs(features.values["flow"][1] - last[0]).max() <= 1e-4 * np.abs(last).max()


def test_a_network_keeps_nothing_of_a_pair(quick_raft: Callable[..., Extractor]) -> None:
    extractor = quick_raft()
    extractor.extract(moving(2), source_fps=25)
    kept = extractor.streams[0].run.runtime.network.parts.corr_block.corr_pyramid
    assert sum(volume.numel() for volume in kept) <= 1
    frames, others = moving(6), moving(6)[::-1].copy()
    alone = [flow_of(*some, extractor=extractor) for some in (frames, others)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda some: flow_of(*some, extractor=extractor), (frames, others)))
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() <= 1e-4 * np.abs(one).max()


def test_weights_that_are_not_used_are_told(standin_file: Standin, caplog: pytest.LogCaptureFixture) -> None:
    weights = {"rgb": standin_file("i3d", "i3d_rgb"), "pwc": Path("nowhere.pt")}
    with caplog.at_level(logging.WARNING, "video_features"):
        load("i3d", streams="rgb", weights=weights, device="cpu")
    assert "i3d does not use weights.pwc with streams=rgb and flow_type=raft" in caplog.text


def test_i3d_with_pwc(standin_file: Standin) -> None:
    weights = {"flow": standin_file("i3d", "i3d_flow"), "pwc": standin_file("pwc", "pwc")}
    extractor = load("i3d", streams="flow", flow_type="pwc", stack_size=10, weights=weights, device="cpu")
    frames = moving(11, 256, 270)  # the size to which I3D resizes frames
    found = extractor.extract(frames, source_fps=25).values["flow"]
    fields = load("pwc", weights=weights["pwc"], device="cpu").extract(frames, source_fps=25).values["pwc"]
    middle = np.clip(fields[:, :, 16:240, 23:247], -20, 20)
    clip = np.round(128 + 255 / 40 * middle).astype(np.float32) * 2 / 255 - 1
    alone, _ = extractor.streams[0].run(clip.swapaxes(0, 1)[None])
    assert np.abs(found - alone).max() <= 1e-3 * np.abs(alone).max()
    assert set(extractor.provenance().weights) == {"flow", "pwc"}


def test_i3d_shows_what_each_stream_takes_a_row_for(standin_file: Standin) -> None:
    weights = {key: standin_file("i3d", f"i3d_{key}") for key in ("rgb", "flow")}
    weights["pwc"] = standin_file("pwc", "pwc")
    extractor = load("i3d", flow_type="pwc", stack_size=10, weights=weights, device="cpu", show_pred=True)
    features = extractor.extract(moving(11, 64, 64), source_fps=25)
    assert features.predictions is not None and list(features.predictions) == ["rgb", "flow"]
    for stream in extractor.streams:
        state = standin.state_dict("i3d", f"i3d_{stream.key}")
        kernel, bias = state["conv3d_0c_1x1.conv3d.weight"].flatten(1), state["conv3d_0c_1x1.conv3d.bias"]
        logits = kernel.numpy() @ features.values[stream.key][0] + bias.numpy()
        (row,) = features.predictions[stream.key]
        assert stream.labels is not None
        assert [one.label for one in row.classes] == [stream.labels[k] for k in np.argsort(-logits)[:5]]


# --- sizes


@pytest.mark.parametrize(("height", "width"), [(130, 123), (121, 128), (135, 144)])
def test_raft_pads_by_repeating_the_edge_and_cuts_it_off(
    quick_raft: Callable[..., Extractor], height: int, width: int
) -> None:
    frames = moving(2, height, width)
    down, across = -height % 8, -width % 8
    margins = ((0, 0), (down // 2, down - down // 2), (across // 2, across - across // 2), (0, 0))
    (found,) = flow_of(*frames, extractor=quick_raft())
    (whole,) = flow_of(*np.pad(frames, margins, mode="edge"), extractor=quick_raft())
    top, left = down // 2, across // 2
    assert found.shape == (2, height, width)
    assert np.array_equal(found, whole[:, top : top + height, left : left + width])


@pytest.mark.parametrize(
    ("feature", "smaller", "shape"),
    [("raft", True, (2, 140, 233)), ("pwc", True, (2, 140, 233)), ("pwc", False, (2, 84, 140))],
)
def test_side_size_resizes_by_pil(standin_file: Standin, feature: str, smaller: bool, shape: tuple[int, ...]) -> None:
    frames = moving(2, 60, 100)
    quick = {"num_flow_updates": 1} if feature == "raft" else {}
    settings = {"weights": standin_file(feature, feature), "device": "cpu", **quick}
    resized = load(feature, side_size=140, resize_to_smaller_edge=smaller, **settings)
    (found,) = flow_of(*frames, extractor=resized)
    size = (shape[2], shape[1])
    by_hand = [np.asarray(PIL.Image.fromarray(one).resize(size, PIL.Image.Resampling.BILINEAR)) for one in frames]
    (expected,) = flow_of(*by_hand, extractor=load(feature, **settings))
    assert found.shape == shape and np.array_equal(found, expected) and found.any()


@pytest.mark.parametrize(
    ("height", "width", "settings", "message"),
    [
        (120, 200, {}, "frames of 200×120 pixels are too small for raft, which needs at least 121 pixels on each side"),
        (300, 400, {"side_size": 100}, "frames of 133×100 pixels with side_size=100 are too small for raft"),
        (
            300,
            400,
            {"side_size": 150, "resize_to_smaller_edge": False},
            "frames of 150×112 pixels with side_size=150 are too small for raft, which needs at least 121 pixels on "
            "each side: set side_size=162 (--side-size 162) or more",
        ),
    ],
)
def test_frames_too_small_for_raft(
    quick_raft: Callable[..., Extractor],
    tmp_path: Path,
    height: int,
    width: int,
    settings: dict[str, Any],
    message: str,
) -> None:
    frames = np.zeros((2, height, width, 3), np.uint8)
    with pytest.raises(MediaError) as error:
        quick_raft(**settings).extract(frames, source_fps=25)
    assert str(error.value).startswith(f"array: {message}")
    (planned,) = plan(frames, "raft", source_fps=25, **settings)
    assert message in planned.reasons["raft"]
    enough = int(str(error.value).rpartition("--side-size ")[2].partition(")")[0])
    (row,) = flow_of(*frames, extractor=quick_raft(**{**settings, "side_size": enough}))
    assert min(row.shape[1:]) >= 121 and np.isfinite(row).all()
    with pytest.raises(MediaError, match="too small"):
        quick_raft(**{**settings, "side_size": enough - 1}).extract(frames, source_fps=25)


def test_pictures_that_change_their_size_midway_are_told(tmp_path: Path, standin_file: Standin) -> None:
    before = write_video(tmp_path / "before.ts", moving(5, 64, 96))
    after = write_video(tmp_path / "after.ts", moving(5, 80, 96), pts=lambda k: k + 5)  # the size changes midway
    video = tmp_path / "both.ts"
    video.write_bytes(before.read_bytes() + after.read_bytes())
    settings: dict[str, Any] = {"weights": standin_file("pwc", "pwc"), "output_path": tmp_path / "out"}
    (outcome,) = extract(video, "pwc", **settings)
    assert outcome.status == "failed" and not files(tmp_path / "out")
    assert f"{video}: the frame size changes at 0.16 s, and pwc_net_sintel needs one" in outcome.reason
    assert "(preprocessed to 3 × 64 × 96 before, 3 × 80 × 96 after)" in outcome.reason
    (row, *_) = (
        load("pwc", side_size=64, resize_to_smaller_edge=True, weights=settings["weights"])
        .extract(before)
        .values["pwc"]
    )
    assert row.shape == (2, 64, 96)


@pytest.mark.parametrize(
    ("feature", "settings", "frames"),
    [
        ("raft", {"side_size": 130}, 6),
        ("raft", {"extraction_total": 4}, 4),
        ("pwc", {"extraction_fps": 50}, 12),
        ("pwc", {"side_size": 65, "resize_to_smaller_edge": False, "extraction_total": 2}, 2),
    ],
)
def test_a_plan_tells_the_shape_and_there_is_a_row_less_than_frames(
    tmp_path: Path, standin_file: Standin, feature: str, settings: dict[str, Any], frames: int
) -> None:
    video = write_video(tmp_path / "a.mkv", moving(6, 130, 140), codec="ffv1", pix_fmt="bgr0")
    (planned,) = plan(video, feature, **settings)
    quick = {"num_flow_updates": 1} if feature == "raft" else {}
    features = load(feature, weights=standin_file(feature, feature), **quick, **settings).extract(video)
    assert planned.frames == {feature: frames}
    assert planned.shapes[feature][feature] == features.values[feature].shape
    assert len(features) == frames - 1 == len(features.timestamps_ms)
    assert (features.end_seconds > features.start_seconds).all()


def test_one_frame_has_no_flow(quick_raft: Callable[..., Extractor]) -> None:
    with pytest.raises(MediaError, match=r"too short for raft: 1 frame, and one row needs at least 2 frames$"):
        quick_raft().extract(moving(1), source_fps=25)
    for name, value in (("extraction_fps", 3), ("extraction_total", 1)):
        with pytest.raises(MediaError, match=f"one row needs at least 2 frames at .* fps; a higher {name} takes"):
            quick_raft(**{name: value}).extract(moving(5), source_fps=25)


def test_padding_is_offered_where_it_would_do(standin_file: Standin) -> None:
    weights = {"flow": standin_file("i3d", "i3d_flow"), "pwc": standin_file("pwc", "pwc")}
    extractor = load("i3d", streams="flow", flow_type="pwc", stack_size=10, weights=weights, device="cpu")
    with pytest.raises(MediaError, match=r"1 frame, and one row needs at least 11 frames$"):
        extractor.extract(moving(1), source_fps=25)
    with pytest.raises(MediaError, match="2 frames, and one row needs at least 11 frames; tail=pad"):
        extractor.extract(moving(2), source_fps=25)


# --- files


@pytest.mark.parametrize("count", [1, 9, 10, 11, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_file_that_grows_is_numpys_when_it_is_finished(
    tmp_path: Path, count: int, dtype: type[np.floating[Any]]
) -> None:
    array = np.random.default_rng(0).standard_normal((count + 1, 2, 3, 5)).astype(np.float32)
    rows = RowsInFile(tmp_path / "new" / "rows.npy", dtype)
    for row in array:
        rows.append(row)
    path = rows.finish(count)
    np.save(tmp_path / "whole.npy", array[:count].astype(dtype))
    assert np.array_equal(np.load(path), array[:count].astype(dtype)) and np.load(path).dtype == dtype
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a.mkv", moving(6, 64, 96), codec="ffv1", pix_fmt="bgr0")


@pytest.fixture
def run(tmp_path: Path, standin_file: Standin, video: Path) -> Callable[..., Outcome]:
    """Extract PWC-Net flow from `video`."""

    def run(**settings: Any) -> Outcome:
        given = {"weights": standin_file("pwc", "pwc"), "device": "cpu", "output_path": tmp_path / "out", **settings}
        (outcome,) = extract(video, "pwc", **given)
        return outcome

    return run


def files(folder: Path) -> set[str]:
    of_runs = {folder / "outcomes.jsonl", folder / ".video_features", folder / "configs"}
    return {path.name for path in folder.rglob("*") if path.is_file() and of_runs.isdisjoint([path, *path.parents])}


SAVED = {"a_pwc.npy", "a_pwc.json", "a_fps.npy", "a_timestamps_ms.npy", "a_end_timestamps_ms.npy"}


def test_flow_goes_to_its_file_as_it_comes_and_is_read_from_there(run: Callable[..., Outcome], tmp_path: Path) -> None:
    in_memory = run(output_path=None)
    assert in_memory.features is not None and in_memory.features.values["pwc"].shape == (5, 2, 64, 96)
    done, again = run(), run()
    assert (done.status, again.status) == ("done", "skipped") and files(tmp_path / "out") == SAVED
    assert done.files == (tmp_path / "out" / "pwc" / "a_pwc.npy", *done.files[1:])
    for outcome in (done, again):
        assert outcome.features is not None and isinstance(outcome.features.values, Values)
        assert outcome.features.values.files == {"pwc": tmp_path / "out" / "pwc" / "a_pwc.npy"}
        values = outcome.features.values["pwc"]
        assert isinstance(values, np.memmap) and np.array_equal(values, in_memory.features.values["pwc"])
        assert outcome.features.timestamps_ms.tolist() == [0, 40, 80, 120, 160]
        assert outcome.features.end_timestamps_ms.tolist() == [80, 120, 160, 200, 240]


@pytest.mark.parametrize("on_extraction", ["save_numpy", "save_pickle"])
def test_float16_halves_the_files(run: Callable[..., Outcome], on_extraction: str) -> None:
    whole = run(output_path=None).features
    half = run(flow_dtype="float16", on_extraction=on_extraction)
    assert whole is not None and half.features is not None
    values = half.features.values["pwc"]
    assert values.dtype == np.float16 and np.array_equal(values, whole.values["pwc"].astype(np.float16))
    assert half.files[0].stat().st_size < whole.values["pwc"].nbytes / 2 + 300
    assert "flow_dtype was float16 and is float32" in run(on_extraction=on_extraction).reason


def test_a_video_that_breaks_midway_leaves_nothing(
    run: Callable[..., Outcome], tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(video, moving(60, 64, 96), codec="ffv1", pix_fmt="bgr0")
    whole = video.read_bytes()
    seen: list[set[str]] = []
    append = RowsInFile.append
    monkeypatch.setattr(
        RowsInFile, "append", lambda rows, row: append(rows, row) or seen.append(files(tmp_path / "out"))
    )
    video.write_bytes(whole[: len(whole) * 45 // 100])
    outcome = run(preview=True)
    assert outcome.status == "failed" and seen[0] and not files(tmp_path / "out")
    assert all(name.startswith(".") for names in seen for name in names)
    write_video(video, moving(6, 64, 96), codec="ffv1", pix_fmt="bgr0")
    assert run().status == "done" and files(tmp_path / "out") == SAVED


@pytest.mark.parametrize("error", [lambda: OSError(28, "No space left on device"), KeyboardInterrupt])
def test_a_full_disk_or_an_interrupt_leaves_what_was_there(
    run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Callable[[], BaseException]
) -> None:
    run()
    before = (tmp_path / "out" / "pwc" / "a_pwc.npy").read_bytes()

    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: Any) -> int:
            if self.file.tell() > 2 * 2 * 64 * 96 * 4:
                raise error()  # a new one: its traceback holds the frames of this run
            return int(self.file.write(data))

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *args: object) -> None:
            self.file.close()

    opened = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", **how: Full(opened(path, mode)) if mode == "xb" else opened(path, mode, **how),
    )
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            run(overwrite=True, side_size=70, preview=True)
    else:
        outcome = run(overwrite=True, side_size=70, preview=True)
        assert outcome.status == "failed"
        assert f"{tmp_path / 'out' / 'pwc'}: cannot be written (No space left on device)" in outcome.reason
    monkeypatch.undo()
    assert files(tmp_path / "out") == SAVED
    assert (tmp_path / "out" / "pwc" / "a_pwc.npy").read_bytes() == before and run().status == "skipped"


def test_flow_that_is_gone_or_replaced_is_told(
    run: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    features = run(output_path="out").features
    assert features is not None
    monkeypatch.chdir("/")
    assert features.values["pwc"].shape == (5, 2, 64, 96) and str(tmp_path) in repr(features)
    run(overwrite=True, side_size=70)
    with pytest.raises(OutputError, match=r"a_pwc\.npy: pwc is read from this file, which was changed or replaced"):
        features.values["pwc"]
    (tmp_path / "out" / "pwc" / "a_pwc.npy").unlink()
    with pytest.raises(OutputError, match=r"a_pwc\.npy: pwc cannot be read from this file \(No such file"):
        features.values["pwc"]


def test_a_disk_that_flow_fills_is_free_for_the_other_features(
    tmp_path: Path, standin_file: Standin, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[set[str]] = []
    append = RowsInFile.append

    def full(rows: RowsInFile, row: npt.NDArray[Any]) -> None:
        append(rows, row)
        if left:
            raise OSError(28, "No space left on device")
        left.append(files(tmp_path / "out"))

    monkeypatch.setattr(RowsInFile, "append", full)
    write = FileSink.write

    def written(sink: FileSink, *args: Any) -> Any:
        left.append(files(tmp_path / "out"))
        return write(sink, *args)

    monkeypatch.setattr(FileSink, "write", written)
    weights = {"pwc": {"weights": standin_file("pwc", "pwc")}, "timm": {"model_name": "tf_efficientnet_lite0"}}
    failed, done = extract(video, ["pwc", "timm"], output_path=tmp_path / "out", device="cpu", **weights)
    assert (failed.status, done.status) == ("failed", "done") and "No space left" in failed.reason
    assert len(left[0]) == 1 and left[1] == set() and "a_timm.npy" in files(tmp_path / "out")


def test_a_file_that_is_cut_is_made_again(run: Callable[..., Outcome]) -> None:
    path = run().files[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert run().status == "done" and path.read_bytes() == whole


# --- previews


def pictures(path: Path) -> Iterator[tuple[float, Frames]]:
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.time is not None
            yield frame.time, frame.to_ndarray(format="rgb24")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_preview_shows_each_frame_above_its_flow(
    run: Callable[..., Outcome], tmp_path: Path, batch_size: int
) -> None:
    outcome = run(preview=True, side_size=65, batch_size=batch_size)  # 65 × 97: the codec needs even sizes
    path = tmp_path / "out" / "pwc" / "a_pwc_preview.mp4"
    assert outcome.status == "done" and path in outcome.files and files(tmp_path / "out") == {*SAVED, path.name}
    assert outcome.features is not None
    shown = list(pictures(path))
    with av.open(str(path)) as container:
        assert float(container.streams.video[0].duration * container.streams.video[0].time_base) == pytest.approx(0.2)
    assert [seconds for seconds, _ in shown] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    for (_, picture), frame, flow in zip(shown, moving(6, 64, 96), outcome.features.values["pwc"], strict=False):
        assert picture.shape == (130, 98, 3)
        resized = np.asarray(PIL.Image.fromarray(frame).resize((97, 65), PIL.Image.Resampling.BILINEAR))
        colours = flow_to_image(torch.from_numpy(flow.copy())).permute(1, 2, 0).numpy()
        for found, expected in ((picture[:65, :97], resized), (picture[65:, :97], colours)):
            difference = np.abs(found.astype(float) - expected).mean()
            assert difference < 12 and difference < 0.5 * np.abs(found.astype(float) - expected[:, :, ::-1]).mean()


def test_a_preview_that_is_missing_is_made_and_one_of_other_values_is_removed(
    run: Callable[..., Outcome], tmp_path: Path
) -> None:
    run()
    made, again = run(preview=True), run(preview=True)
    assert (made.status, again.status) == ("done", "skipped")
    assert "a_pwc_preview.mp4" in files(tmp_path / "out") and set(again.files) == set(made.files)
    assert run().status == "skipped"
    preview = tmp_path / "out" / "pwc" / "a_pwc_preview.mp4"
    preview.write_bytes(preview.read_bytes()[:-1])
    assert run(preview=True).status == "done" and len(list(pictures(preview))) == 5
    assert run(overwrite=True, side_size=70).status == "done" and files(tmp_path / "out") == SAVED
    run(overwrite=True, preview=True)
    (tmp_path / "out" / "pwc" / "a_pwc.json").unlink()
    assert run(side_size=70).status == "done" and files(tmp_path / "out") == SAVED


def test_a_preview_needs_a_folder(run: Callable[..., Outcome], standin_file: Standin) -> None:
    for settings in ({"output_path": None}, {"on_extraction": "print"}):
        with pytest.raises(SettingsError, match="preview writes a video beside the features: it needs an output_path"):
            run(preview=True, **settings)
    with pytest.raises(SettingsError, match="load writes no files, so it cannot write a preview"):
        load("pwc", preview=True, weights=standin_file("pwc", "pwc"))


def test_show_pred_names_the_preview(run: Callable[..., Outcome], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "video_features"):
        assert run(show_pred=True).status == "done"
    assert "pwc has no classes: show_pred has nothing to show; preview=true (--preview) writes a video" in caplog.text


# --- command lines and settings


def test_both_command_lines(tmp_path: Path, standin_file: Standin) -> None:
    video = write_video(tmp_path / "a.mp4", grey_levels(4, 128, 160))
    weights = standin_file("raft", "raft")
    words = ["extract", "raft", video, "--weights", weights, "--num-flow-updates", 1, "--side-size", 170]
    words += ["--no-resize-to-smaller-edge", "--preview", "--flow-dtype", "float16", "--output-path", tmp_path / "ours"]
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    theirs = ["feature_type=raft", f"video_paths={video}", f"weights={weights}", "num_flow_updates=1", "side_size=170"]
    theirs += ["resize_to_smaller_edge=false", "finetuned_on=kitti", "on_extraction=save_numpy", "batch_size=2"]
    assert reference_cli.main([*theirs, f"output_path={tmp_path / 'theirs'}"]) == 0
    ours, reference = (np.load(tmp_path / folder / "raft" / "a_raft.npy") for folder in ("ours", "theirs"))
    assert ours.shape == reference.shape == (3, 2, 136, 170) and ours.dtype == np.float16
    assert np.allclose(ours, reference, atol=1e-2)
    listed = CliRunner().invoke(cli, ["models", "raft"])
    assert listed.output.split() == list(raft.NETWORKS)


def test_help_shows_each_setting_once() -> None:
    shown = CliRunner().invoke(cli, ["extract", "raft", "--help"]).output
    assert shown.count("--preview") == 1 and "--raft." not in shown
    assert "--resize-to-smaller-edge / --no-resize-to-smaller-edge" in shown


@pytest.mark.parametrize(
    ("feature", "settings", "message"),
    [
        ("raft", {"finetuned_on": "sintl"}, "unknown raft finetuned_on 'sintl': did you mean sintel"),
        ("raft", {"num_flow_updates": 0}, "num_flow_updates must be greater than 0, got 0"),
        ("raft", {"flow_dtype": "float64"}, "unknown flow_dtype 'float64': did you mean float"),
        ("pwc", {"side_size": 0}, "side_size must be greater than 0, got 0"),
        ("pwc", {"finetuned_on": "kitti"}, "unknown setting of pwc 'finetuned_on'"),
        ("raft", {"extraction_fps": 5, "extraction_total": 5}, "mutually exclusive"),
    ],
)
def test_settings_that_cannot_be(feature: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(feature, **settings)
    assert message in str(error.value)
