"""Output files: contents, names, reuse of complete outputs, and no partial files."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import grey_levels, write_video
from video_features import Features, OutputError, extract
from video_features.features import Class, Outcome, Prediction
from video_features.outputs.base import Saved
from video_features.outputs.files import FileSink
from video_features.outputs.formats.numpy import FORMAT as NUMPY
from video_features.outputs.formats.pickle import FORMAT as PICKLE
from video_features.outputs.layout import Extras
from video_features.outputs.provenance import OutputRecord

LITE0 = {"model_name": "tf_efficientnet_lite0", "device": "cpu"}
FOLDER = Path("timm") / "tf_efficientnet_lite0"


def record(**changes: Any) -> dict[str, Any]:
    return {
        "feature": "clip",
        "settings": {"model_name": "ViT-B/32", "extraction_fps": None, **changes.get("settings", {})},
        "weights": {"clip": {"sha256": changes.get("sha256", "ab")}},
        "source": {"path": "/videos/a.mp4", "size_bytes": 10, "fps": 25.0, **changes.get("source", {})},
        "shapes": {"clip": [3, 4]},
    }


def features(**changes: Any) -> Features:
    return Features(
        values={"clip": np.arange(12, dtype=np.float32).reshape(3, 4)},
        start_seconds=np.array([0, 0.04, 0.08]),
        end_seconds=np.array([0.04, 0.08, 0.28]),
        fps=25.0,
        predictions={"clip": [Prediction(0.04 * k, 0.04 * k + 0.04, (Class("a dog", 1.5, 0.75),)) for k in range(3)]},
        record=record(**changes),
    )


def write(sink: FileSink, features: Features) -> tuple[Path, ...]:
    with sink.stage("a", OutputRecord.from_json(features.record).provenance, Extras()) as staging:
        return sink.write("a", features, staging).files


def existing(sink: FileSink, name: str, **changes: Any) -> Saved | None:
    found = OutputRecord.from_json(record(**changes))
    source = dataclasses.replace(found.source, fps=None)  # unknown before the video is opened
    return sink.existing(name, found.provenance, source, Extras(predictions=True))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*/**/*") if path.is_file() and ".video_features" not in path.parts}


@pytest.mark.parametrize(("format", "suffix"), [(NUMPY, ".npy"), (PICKLE, ".pkl")])
def test_the_reference_tools_layout(tmp_path: Path, format: Any, suffix: str) -> None:
    files = write(FileSink(tmp_path, format), features())
    folder = tmp_path / "clip" / "ViT-B_32"
    arrays = {f"a_{key}{suffix}" for key in ("clip", "fps", "timestamps_ms", "end_timestamps_ms")}
    assert names(tmp_path) == arrays | {"a_clip.json", "a_clip_pred.jsonl"}
    assert {path.name for path in files} == names(tmp_path) and files[0] == folder / f"a_clip{suffix}"

    def load(key: str) -> Any:
        path = folder / f"a_{key}{suffix}"
        return np.load(path) if suffix == ".npy" else pickle.loads(path.read_bytes())

    assert load("clip").dtype == np.float32 and load("clip").shape == (3, 4)
    assert load("fps").shape == () and load("fps") == 25
    assert load("timestamps_ms").tolist() == [0, 40, 80]
    assert load("end_timestamps_ms").tolist() == [40, 80, 280]
    lines = (folder / "a_clip_pred.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {
        "row": 1,
        "key": "clip",
        "start_seconds": 0.04,
        "end_seconds": 0.08,
        "classes": [{"label": "a dog", "logit": 1.5, "probability": 0.75}],
    }


def test_what_is_there_and_whole_is_this_runs(tmp_path: Path) -> None:
    sink = FileSink(tmp_path, NUMPY)
    write(sink, features())
    saved = existing(sink, "a")
    assert saved is not None
    assert np.array_equal(saved.features.values["clip"], features().values["clip"])
    assert saved.features.predictions == features().predictions
    assert np.allclose(saved.features.end_seconds, features().end_seconds)
    assert existing(sink, "b") is None
    overwriting = FileSink(tmp_path, NUMPY, overwrite=True)  # an interrupted overwriting run continues
    assert existing(overwriting, "a") is not None
    assert existing(overwriting, "a", sha256="cd") is None


@pytest.mark.parametrize(
    "damage",
    ["gone", "cut", "other shape", "fewer times", "no record", "record cut", "record empty", "no predictions"],
)
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    sink = FileSink(tmp_path, NUMPY)
    write(sink, features())
    folder = tmp_path / "clip" / "ViT-B_32"
    array, sidecar = folder / "a_clip.npy", folder / "a_clip.json"
    match damage:
        case "gone":
            (folder / "a_timestamps_ms.npy").unlink()
        case "cut":
            array.write_bytes(array.read_bytes()[:-1])
        case "other shape":
            np.save(array, np.zeros((2, 4), np.float32))
        case "fewer times":
            np.save(folder / "a_timestamps_ms.npy", np.zeros(2))
        case "record empty":
            sidecar.write_text("{}")
        case "no record":
            sidecar.unlink()
        case "record cut":
            sidecar.write_text(sidecar.read_text()[:40])
        case "no predictions":
            (folder / "a_clip_pred.jsonl").unlink()
    assert existing(sink, "a") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"extraction_fps": 5.0}}, r"other settings \(extraction_fps was None and is 5\.0"),
        ({"sha256": "cd"}, r"other settings \(weights of clip was ab and is cd"),
        (
            {"source": {"path": "/videos/other/a.mp4"}},
            r"outputs of this name belong to another video, /videos/a\.mp4 \(see",
        ),
        ({"source": {"size_bytes": 11}}, r"^has changed since .* \(then 10 bytes, now 11 bytes\)"),
    ],
)
def test_what_was_made_otherwise_is_refused_with_both_values(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write(FileSink(tmp_path, NUMPY), features())
    (tmp_path / "clip" / "ViT-B_32" / "a_clip_pred.jsonl").unlink()  # incomplete outputs are refused too
    with pytest.raises(OutputError, match=message):
        existing(FileSink(tmp_path, NUMPY), "a", **changes)


def test_predictions_of_an_earlier_run_do_not_outlive_its_features(tmp_path: Path) -> None:
    write(FileSink(tmp_path, NUMPY), features())
    without = dataclasses.replace(features(), predictions=None)
    write(FileSink(tmp_path, NUMPY, overwrite=True), without)
    assert "a_clip_pred.jsonl" not in names(tmp_path)


def test_overwriting_removes_a_key_that_the_new_features_have_not(tmp_path: Path) -> None:
    two = dataclasses.replace(features(), values={key: np.zeros((3, 4), np.float32) for key in ("clip", "other")})
    write(FileSink(tmp_path, NUMPY), two)
    assert "a_other.npy" in names(tmp_path)
    write(FileSink(tmp_path, NUMPY, overwrite=True), features())
    assert "a_other.npy" not in names(tmp_path) and "a_clip.npy" in names(tmp_path)


def test_both_formats_of_one_run_stay_side_by_side(tmp_path: Path) -> None:
    for format in (NUMPY, PICKLE):
        write(FileSink(tmp_path, format), features())
    for format in (NUMPY, PICKLE):
        assert existing(FileSink(tmp_path, format), "a") is not None


def test_overwriting_one_format_removes_the_other(tmp_path: Path) -> None:
    write(FileSink(tmp_path, PICKLE), features())
    write(FileSink(tmp_path, NUMPY, overwrite=True), features(sha256="cd"))
    assert not [name for name in names(tmp_path) if name.endswith(".pkl")]
    assert existing(FileSink(tmp_path, PICKLE), "a", sha256="cd") is None


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(FileSink(tmp_path, NUMPY), features())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(file: Any, array: Any) -> None:
        file.write(b"half")
        if array.shape == ():
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write(FileSink(tmp_path, NUMPY, overwrite=True), features(sha256="cd"))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def run(paths: Any, output: Path, **settings: Any) -> list[Outcome]:
    return list(extract(paths, "timm", output_path=output, **LITE0, **settings))


@pytest.mark.slow
def test_extract_writes_then_skips_then_repairs(tmp_path: Path) -> None:
    video = write_video(tmp_path / "grey.mp4", grey_levels(6))
    output = tmp_path / "out"
    (first,) = run(video, output, show_pred=True)
    assert first.status == "done" and first.features is not None
    sidecar = json.loads((output / FOLDER / "grey_timm.json").read_text())
    assert sidecar["settings"]["model_name"] == "tf_efficientnet_lite0"
    assert sidecar["weights"]["timm"]["sha256"] == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert sidecar["source"]["path"] == str(video) and sidecar["source"]["size_bytes"] == video.stat().st_size
    assert sidecar["source"]["duration_seconds"] == pytest.approx(0.24)
    assert sidecar["shapes"] == {"timm": [6, 1280]}
    assert {"python", "torch", "timm", "av"} <= set(sidecar["versions"])

    (second,) = run(video, output, show_pred=True)
    assert second.status == "skipped" and second.features is not None
    assert np.array_equal(second.features.values["timm"], first.features.values["timm"])
    assert second.features.predictions == first.features.predictions

    array = output / FOLDER / "grey_timm.npy"
    array.write_bytes(b"")
    (third,) = run(video, output, show_pred=True)
    assert third.status == "done"
    assert np.array_equal(np.load(array), first.features.values["timm"])


@pytest.mark.slow
def test_other_settings_are_refused_or_replaced_never_skipped(tmp_path: Path) -> None:
    video = write_video(tmp_path / "grey.mp4", grey_levels(6))
    run(video, tmp_path / "out")
    (refused,) = run(video, tmp_path / "out", extraction_fps=5)
    assert refused.status == "failed" and "extraction_fps was None and is 5.0" in refused.reason
    (replaced,) = run(video, tmp_path / "out", extraction_fps=5, overwrite=True)
    assert replaced.status == "done"
    assert len(np.load(tmp_path / "out" / FOLDER / "grey_timm.npy")) == 1


def test_a_video_listed_twice_is_done_once_and_namesakes_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = write_video(tmp_path / "grey.mp4", grey_levels(3))
    other = write_video(tmp_path / "other" / "grey.mp4", grey_levels(9))
    outcomes = run([first, first, other], tmp_path / "out")
    assert [outcome.status for outcome in outcomes] == ["done", "failed"]
    assert str(first) in outcomes[1].reason and str(other) in outcomes[1].reason


@pytest.mark.slow
def test_arrays_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    rgb = np.stack(list(grey_levels(3)))
    assert run(rgb, tmp_path, source_fps=5)[0].status == "done"
    assert run(rgb, tmp_path, source_fps=5)[0].status == "skipped"
    assert run(255 - rgb, tmp_path, source_fps=5)[0].status == "failed"
    (refused,) = run(rgb, tmp_path, source_fps=10)
    assert "source_fps was 5.0 and is 10.0" in refused.reason


def test_printing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "grey.mp4", grey_levels(4))
    (outcome,) = extract(video, "timm", on_extraction="print", **LITE0)
    assert outcome.features is not None and outcome.files == ()
    values = outcome.features.values["timm"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "timm"
    assert f"max: {values.max():.8f}; mean: {values.mean():.8f}; min: {values.min():.8f}" in lines
    assert {"fps", "timestamps_ms", "end_timestamps_ms"} <= set(lines)
    assert "max: 25.00000000; mean: 25.00000000; min: 25.00000000" in lines
