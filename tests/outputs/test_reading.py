"""Reading saved features back: by a file, by a folder, over a run; from folders, stores and the reference tool."""

from __future__ import annotations

import dataclasses
import gc
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import s3fs
import torch

import earlier
from conftest import grey_levels, write_video
from stores import delete, objects, put, s3
from video_features import Features, OutputError, SettingsError, extract, iter_features, load_features, registry
from video_features.features import Class, Prediction, Values
from video_features.outputs.files import FileSink
from video_features.outputs.folders import LocalFolder
from video_features.outputs.formats import find_format
from video_features.outputs.layout import Extras
from video_features.outputs.provenance import OutputRecord
from video_features.outputs.store import StoreSink
from video_features.settings.parse import names_of, network_name

__all__ = ["s3"]

ROWS = 3
SHAPES = {"raft": (2, 24, 32), "pwc": (2, 24, 32), "vggish": (128,), "i3d": (1024,)}
FORMATS = ["save_numpy", "save_pickle"]


def keys_of(feature: str) -> tuple[str, ...]:
    return ("rgb", "flow") if feature == "i3d" else (feature,)


def values_of(feature: str, rows: int = ROWS) -> dict[str, npt.NDArray[np.floating[Any]]]:
    rng = np.random.default_rng(len(feature))
    dtype = np.float16 if feature == "pwc" else np.float32
    return {key: rng.normal(size=(rows, *SHAPES.get(feature, (16,)))).astype(dtype) for key in keys_of(feature)}


def features_of(feature: str, video: str = "/videos/a.mp4") -> Features:
    """Features as a run of the family gives them: padded frames for clips, predictions where there are classes."""
    values, start = values_of(feature), np.arange(ROWS) * 0.04
    is_flow = feature in ("raft", "pwc")
    settings = registry.family(feature).Settings
    model = network_name(settings) if "model_name" in names_of(settings) else None
    record = {
        "feature": feature,
        "settings": {"extraction_fps": None, **({} if model is None else {"model_name": model or "any"})},
        "weights": {key: {"sha256": "ab"} for key in values},
        "source": {"path": video, "size_bytes": 10, "fps": 25.0},
        "shapes": {key: list(array.shape) for key, array in values.items()},
    }
    rows = [Prediction(0.04 * k, 0.04 * k + 0.04, (Class("a dog", 1.5, 0.75),)) for k in range(ROWS)]
    return Features(
        values=values,
        start_seconds=start,
        end_seconds=start + 0.04,
        fps=25.0,
        padded_frames=np.array([0, 0, 2]) if feature in ("r21d", "s3d", "i3d", "vggish") else None,
        predictions=None if is_flow or feature == "vggish" else dict.fromkeys(values, rows),
        record=record,
    )


def save(root: Path | str, how: str, features: Features, name: str = "a") -> None:
    """Write features as a run does: flow row by row into its file."""
    format = find_format(how)
    sink = FileSink(root, format) if isinstance(root, Path) else StoreSink(root, format)
    record = OutputRecord.from_json(features.record)
    gathered = features.feature in ("raft", "pwc")
    with sink.stage(name, record.provenance, Extras()) as staging:
        values: Any = features.values
        if gathered and how == "save_numpy":
            (key,) = features.values
            rows = staging.rows(key, features.values[key].dtype.type)
            for row in features.values[key]:
                rows.append(row)
            values = Values({key: rows.finish(len(features))})
        sink.write(name, dataclasses.replace(features, values=values), staging)


def check_equal(found: Features, expected: Features) -> None:
    assert list(found.values) == list(expected.values) and found.shapes == expected.shapes
    for key, array in expected.values.items():
        np.testing.assert_array_equal(found.values[key], array)
        assert found.values[key].dtype == array.dtype
    np.testing.assert_allclose(found.start_seconds, expected.start_seconds)
    np.testing.assert_allclose(found.end_seconds, expected.end_seconds)
    assert found.fps == 25 and len(found) == ROWS
    np.testing.assert_array_equal(found.padded_frames, expected.padded_frames)  # type: ignore[arg-type]  # None
    assert found.predictions == expected.predictions
    assert (found.feature, found.model_name) == (expected.feature, expected.model_name)
    assert found.source == "/videos/a.mp4"


def is_mapped(array: npt.NDArray[Any]) -> bool:
    return isinstance(array, np.memmap) and not array.flags.writeable


@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("feature", registry.names())
def test_every_file_of_a_family_gives_its_features(feature: str, how: str, tmp_path: Path) -> None:
    expected = features_of(feature)
    save(tmp_path, how, expected)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in (*files, files[0].parent, tmp_path / feature, tmp_path):
        found = load_features(path)
        check_equal(found, expected)
    assert all(is_mapped(array) == (how == "save_numpy") for array in found.values.values())
    (lazy,) = iter_features(tmp_path, feature)
    check_equal(lazy, expected)


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> str:
    s3fs.S3FileSystem.clear_instance_cache()  # the instances cache listings
    return f"{s3}/{request.node.originalname}"


@pytest.mark.processes
@pytest.mark.parametrize("how", FORMATS)
def test_a_store_gives_the_features_of_every_family(bucket: str, how: str) -> None:
    root = f"{bucket}/{how}"
    names = registry.names() if how == "save_numpy" else ["i3d", "raft"]
    for feature in names:
        save(root, how, features_of(feature))
    found = {features.feature: features for features in iter_features(root)}
    assert sorted(found) == names
    for feature, features in found.items():
        check_equal(features, features_of(feature))
    for name in list(objects(f"{root}/i3d"))[:4]:
        check_equal(load_features(f"{root}/i3d/{name}"), features_of("i3d"))
    flow = load_features(f"{root}/raft").values["raft"]
    assert is_mapped(flow) == (how == "save_numpy")
    if how == "save_numpy":
        check_downloads(f"{root}/i3d", f"{root}/raft/a_raft.npy")


def check_downloads(folder: str, flow: str) -> None:
    """Each array is downloaded once, when it is first used, and its file is removed with the features."""
    features = load_features(folder)
    delete(f"{folder}/a_flow.npy")  # what is not used is not read
    rgb = features.values["rgb"]
    assert isinstance(rgb, np.memmap) and features.values["rgb"].filename == rgb.filename
    file = Path(str(rgb.filename))
    with pytest.raises(OutputError, match=r"i3d/a_flow\.npy: cannot be read \(FileNotFoundError"):
        features.values["flow"]
    other = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(other.values["rgb"], rgb)
    assert other.values["rgb"].filename != rgb.filename
    expected = rgb[2].copy()
    del features, other
    gc.collect()
    assert not file.exists() and np.array_equal(rgb[2], expected)
    put(flow, b"damaged")
    with pytest.raises(OutputError, match=r"a_raft\.npy: expected \d+ bytes, found 7; the command"):
        load_features(flow).values["raft"]


@pytest.mark.processes
def test_what_is_not_in_a_store_is_said(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere: no such file or folder"):
        load_features(f"{bucket}/nowhere")
    put(f"{bucket}/s3d/b_s3d.npy", npy(tmp_path, values_of("s3d")["s3d"]))  # of the reference tool
    found = load_features(f"{bucket}/s3d/b_s3d.npy")
    assert found.shapes == {"s3d": (ROWS, 16)} and np.isnan(found.start_seconds).all()
    np.testing.assert_array_equal(found.values["s3d"], values_of("s3d")["s3d"])


def npy(folder: Path, array: npt.NDArray[Any]) -> bytes:
    np.save(folder / "array.npy", array)
    return (folder / "array.npy").read_bytes()


def test_flow_is_not_copied_into_memory(tmp_path: Path) -> None:
    flow = np.zeros((64, 2, 128, 128), np.float32)  # 8 MB
    features = features_of("raft")
    times = np.arange(len(flow)) / 25
    record = {**features.record, "shapes": {"raft": list(flow.shape)}}
    save(
        tmp_path,
        "save_numpy",
        dataclasses.replace(features, record=record, values={"raft": flow}, start_seconds=times, end_seconds=times),
    )
    load_features(tmp_path)  # imports
    for to in ("numpy", "torch"):
        tracemalloc.start()
        values = load_features(tmp_path, to=to).values["raft"]
        last = values[-1].sum()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert last == 0 and peak < 500_000, peak


def test_tensors_share_the_memory_map_and_leave_the_file_as_it_is(tmp_path: Path) -> None:
    save(tmp_path, "save_numpy", features_of("raft"))
    before = next(tmp_path.rglob("*_raft.npy")).read_bytes()
    (features,) = iter_features(tmp_path, to="torch")
    tensor: Any = features.values["raft"]
    assert (
        isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32 and features.shapes["raft"] == tensor.shape
    )
    np.testing.assert_array_equal(tensor.numpy(), values_of("raft")["raft"])
    tensor[0] = 7
    assert next(tmp_path.rglob("*_raft.npy")).read_bytes() == before
    with pytest.raises(SettingsError, match=r"unknown to 'tensorflow': available: numpy, torch"):
        load_features(tmp_path, to="tensorflow")


def test_a_run_is_iterated_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in ("b", "one/deep/a", "a", "one/a"):
        save(tmp_path, "save_numpy", features_of("clip", f"/videos/{name}.mp4"), name)
    save(tmp_path, "save_pickle", features_of("resnet", "/videos/b.mp4"), "b")
    found = [(features.feature, features.source) for features in iter_features(tmp_path)]
    expected = ["a", "b", "one/a", "one/deep/a"]
    assert found == [*(("clip", f"/videos/{name}.mp4") for name in expected), ("resnet", "/videos/b.mp4")]
    assert [features.source for features in iter_features(str(tmp_path), "resnet")] == ["/videos/b.mp4"]
    with pytest.raises(OutputError, match="no outputs of 'resnt', only of clip, resnet"):
        list(iter_features(tmp_path, "resnt"))
    with pytest.raises(
        OutputError, match=r"more than one video or feature \(.*a_clip.json, .*b_clip.json\); .*iter_feat"
    ):
        load_features(tmp_path / "clip")
    with pytest.raises(OutputError, match="expected a folder, found a file"):
        iter_features(tmp_path / "clip" / "ViT-B_32" / "a_clip.npy")


def test_names_that_contain_one_another_are_told_apart(tmp_path: Path) -> None:
    names = ["v", "v_1", "v_clip", "v_fps"]
    for name in names:
        save(tmp_path, "save_numpy", features_of("clip", name), name)
    folder = tmp_path / "clip" / "ViT-B_32"
    for name in names:
        for key in ("clip", "fps", "timestamps_ms", "end_timestamps_ms"):
            assert load_features(folder / f"{name}_{key}.npy").source == name


def test_two_videos_never_share_a_file(tmp_path: Path, installed_families: None) -> None:
    """`v_end_timestamps_ms.npy` would hold the end times of `v` and the start times of `v_end`."""
    videos = [write_video(tmp_path / f"{name}.mp4", grey_levels(count)) for name, count in (("v", 3), ("v_end", 5))]
    for order in (videos, videos[::-1]):
        out = tmp_path / order[0].stem
        found = list(extract(order, "colour", output_path=out, device="cpu"))
        assert [outcome.status for outcome in found] == ["done", "failed"]
        assert "would have the same name as one of" in found[1].reason and "id" in found[1].reason
        for overwrite in (False, True):  # in a run of its own
            (later,) = extract(order[1], "colour", output_path=out, device="cpu", overwrite=overwrite)
            assert later.status == "failed" and f"{order[0].stem}_colour.json: give the video an id" in later.reason
        assert load_features(out).source == str(order[0])


def test_a_file_among_many_names_is_found_by_reading_one_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        save(tmp_path, "save_numpy", features_of("clip", f"video_{number}"), f"video_{number}")
    read: list[str] = []
    original = LocalFolder.read
    monkeypatch.setattr(LocalFolder, "read", lambda folder, name: read.append(name) or original(folder, name))
    assert load_features(tmp_path / "clip" / "ViT-B_32" / "video_3_fps.npy").source == "video_3"
    assert read == ["video_3_clip.json"]


def broken(folder: Path, how: str) -> Path:
    """Damage the outputs of `a`, and return the path to load."""
    file = folder / "a_clip.npy"
    if how == "missing":
        return folder / "b_clip.npy"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "no record":
        (folder / "a_clip.json").unlink()
    elif how == "no times":
        (folder / "a_fps.npy").unlink()
    elif how == "empty record":
        file = folder / "a_clip.json"
        file.write_text("")
    elif how == "text":
        file = folder / "notes.txt"
        file.write_text("text")
    elif how == "another shape":
        np.save(file, np.zeros((ROWS, 5), np.float32))
    return file


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"b_clip\.npy: no such file or folder$"),
        ("truncated", r"a_clip\.json: features cannot be read \(ValueError: a_clip\.npy: .*\); the command that wrote"),
        ("no record", r"a_clip\.npy: the outputs are unfinished, they have no record; the command that wrote it"),
        ("no times", r"a_clip\.npy: the outputs are unfinished, some files are missing; the command that wrote it"),
        ("empty record", r"a_clip\.json: not the record of outputs, or damaged; the command that wrote it"),
        ("text", r"notes\.txt: not a file of saved features: expected \.npy, \.pkl or \.json"),
        ("another shape", r"features cannot be read \(ValueError: clip has shape \(3, 5\), recorded as \[3, 16\]\)"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(how: str, message: str, tmp_path: Path) -> None:
    save(tmp_path, "save_numpy", features_of("clip"))
    path = broken(tmp_path / "clip" / "ViT-B_32", how)
    with pytest.raises(OutputError, match=message) as raised:
        load_features(path)
    assert "\n" not in str(raised.value)
    if how in ("no record", "no times", "empty record"):
        assert list(iter_features(tmp_path)) == []
        with pytest.raises(OutputError, match="no finished outputs were found in this folder or below it"):
            load_features(tmp_path)


def test_a_damaged_output_does_not_end_the_iteration(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path, "save_numpy", features_of("clip", name), name)
    (tmp_path / "clip" / "ViT-B_32" / "b_clip.npy").write_bytes(b"")
    read = []
    for features in iter_features(tmp_path):
        try:
            read.append((features.source, features.values["clip"].shape))
        except OutputError as error:
            assert "b_clip.json: features cannot be read" in str(error)
    assert read == [("a", (ROWS, 16)), ("c", (ROWS, 16))]


def test_a_pickle_that_may_run_code_is_not_opened(tmp_path: Path) -> None:
    save(tmp_path, "save_pickle", features_of("clip"))
    path = tmp_path / "clip" / "ViT-B_32" / "a_clip.pkl"
    path.write_bytes(pickle.dumps(Path("code")))
    with pytest.raises(OutputError, match=r"a_clip\.pkl: UnpicklingError: expected a pickled array, found pathlib"):
        load_features(path)


def test_outputs_of_an_earlier_version_are_read() -> None:
    found = {
        (features.feature, features.record["source"]["path"][:5]): features
        for features in iter_features(earlier.FOLDER)
    }
    assert {feature for feature, _ in found} == {"trouble", "resnet", "raft"}
    trouble = load_features(earlier.FOLDER / "pickled")
    # The mean of red and green is 8 + 7.5, the mean of blue is 100 + 10 k, see test_earlier.py.
    np.testing.assert_array_equal(trouble.values["trouble"], [[15.5, 15.5, 100 + 10 * k] for k in range(3)])
    preview = load_features(earlier.FOLDER / "saved" / "raft" / "moving_raft_preview.mp4")
    assert preview.shapes == {"raft": (1, 2, 128, 128)} and preview.values["raft"].dtype == np.float16


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """Outputs of the reference tool: float64, without a record; only some families save times."""

    def put(folder: str, **arrays: Any) -> None:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for key, array in arrays.items():
            np.save(tmp_path / folder / f"my_video_{key}.npy", array)

    ms = np.arange(ROWS + 1) * 40.0
    put("resnet/resnet50", resnet=np.ones((ROWS, 4)), fps=np.array(25.0), timestamps_ms=ms[:ROWS])
    put("r21d/r2plus1d_18_16_kinetics", r21d=np.full((ROWS, 4), 2.0))
    put("i3d", rgb=np.full((1, 4), 3.0), flow=np.full((1, 4), 4.0), fps=np.array(25.0), timestamps_ms=ms[1:2])
    put("raft", raft=np.full((ROWS, 2, 4, 4), 5.0), fps=np.array(25.0), timestamps_ms=ms)
    (tmp_path / "vggish").mkdir()
    (tmp_path / "vggish" / "my_video_vggish.pkl").write_bytes(pickle.dumps(np.full((ROWS, 128), 6.0)))
    np.save(tmp_path / "mean_std.npy", np.zeros(3))  # of somebody else
    return tmp_path


def test_outputs_of_the_reference_tool_are_read_as_far_as_they_are_known(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {features.feature: features for features in iter_features(reference)}
    assert {
        feature: (f.model_name, len(f), float(next(iter(f.values.values())).flat[0])) for feature, f in found.items()
    } == {
        "i3d": ("", 1, 3.0),
        "r21d": ("r2plus1d_18_16_kinetics", ROWS, 2.0),
        "raft": ("", ROWS, 5.0),
        "resnet": ("resnet50", ROWS, 1.0),
        "vggish": ("", ROWS, 6.0),
    }
    assert all(features.source == "my_video" for features in found.values())
    assert list(found["i3d"].values) == ["rgb", "flow"] and found["i3d"].end_seconds == [0.04]
    np.testing.assert_allclose(found["raft"].timestamps_ms, [0, 40, 80])  # the time of a row's first frame
    assert np.isnan(found["raft"].end_seconds).all() and found["raft"].fps == 25
    assert np.isnan(found["r21d"].start_seconds).all() and np.isnan(found["r21d"].fps)
    assert is_mapped(found["raft"].values["raft"])
    for name in ("my_video_resnet.npy", "my_video_fps.npy", "my_video_timestamps_ms.npy"):
        assert load_features(reference / "resnet" / "resnet50" / name).feature == "resnet"
    monkeypatch.chdir(reference / "r21d" / "r2plus1d_18_16_kinetics")
    assert load_features(".").model_name == load_features("my_video_r21d.npy").model_name == found["r21d"].model_name


def test_a_moved_file_of_the_reference_tool_is_read_by_its_name(reference: Path) -> None:
    moved = (reference / "r21d" / "r2plus1d_18_16_kinetics" / "my_video_r21d.npy").rename(
        reference / "my_video_r21d.npy"
    )
    assert load_features(moved).feature == "r21d"
    np.save(moved.with_name("a_clip.npy"), np.ones((ROWS, 4)))
    np.save(moved.with_name("a_timestamps_ms.npy"), np.ones(ROWS - 1))
    with pytest.raises(
        OutputError, match=r"a_clip\.npy: features cannot be read \(ValueError: 3 rows, but 2 timestamps\)"
    ):
        load_features(moved.with_name("a_clip.npy"))


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    save(tmp_path / "one", "save_numpy", features_of("clip"))
    (tmp_path / "two").mkdir()
    (tmp_path / "one" / "clip" / "link").symlink_to(tmp_path / "two")
    (tmp_path / "two" / "back").symlink_to(tmp_path / "one" / "clip")
    (tmp_path / "one" / "itself").symlink_to(tmp_path / "one" / "itself")
    assert len(list(iter_features(tmp_path / "one"))) == 1


def test_files_that_hold_no_rows_are_named(tmp_path: Path) -> None:
    (tmp_path / "a_clip.pkl").write_bytes(pickle.dumps({"clip": 1}))
    np.save(tmp_path / "b_clip.npy", np.array(3.0))
    for name, message in (("a_clip.pkl", "expected a pickled array, found dict"), ("b_clip.npy", "an array of rows")):
        with pytest.raises(OutputError, match=message):
            load_features(tmp_path / name)


def test_the_times_of_a_video_whose_name_ends_with_end(tmp_path: Path) -> None:
    folder = tmp_path / "resnet" / "resnet18"
    folder.mkdir(parents=True)
    for name, step in (("v", 40.0), ("v_end", 20.0)):
        np.save(folder / f"{name}_resnet.npy", np.ones((ROWS, 4)))
        np.save(folder / f"{name}_timestamps_ms.npy", np.arange(ROWS) * step)
    found = {features.source: features.timestamps_ms.tolist() for features in iter_features(tmp_path)}
    assert found == {"v": [0, 40, 80], "v_end": [0, 20, 40]}
    assert load_features(folder / "v_end_timestamps_ms.npy").source == "v_end"


def test_a_run_is_read_back(tmp_path: Path, installed_families: None) -> None:
    video = write_video(tmp_path / "grey.mp4", grey_levels(6))
    (outcome,) = extract(video, "colour", output_path=tmp_path / "out", device="cpu")
    assert outcome.features is not None
    found = load_features(tmp_path / "out")
    np.testing.assert_array_equal(found.values["colour"], outcome.features.values["colour"])
    assert found.source == str(video)
    assert found.record == json.loads((tmp_path / "out" / "colour" / "grey_colour.json").read_text())
