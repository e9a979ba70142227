"""Unreadable videos: one line names each file, the other videos are done, no partial files, exit status 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from click.testing import CliRunner
from test_video import faststart

from conftest import grey_levels, tones, write_sound, write_video
from video_features import MediaError, OutputError, extract, load
from video_features.cli.main import cli

LITE0 = ["--model-name", "tf_efficientnet_lite0", "--device", "cpu"]


def cut(path: Path, bikes: Path) -> Path:
    whole = faststart(bikes, path.with_name("whole.mp4"))
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    whole.unlink()
    return path


def test_each_bad_file_costs_one_line_and_the_others_are_done(tmp_path: Path, bikes: Path) -> None:
    good = [write_video(tmp_path / f"good{k}.mp4", grey_levels(4)) for k in range(2)]
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.touch()
    text.write_text("<html>404</html>")
    (tmp_path / "frames").mkdir()
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "frames" / "0.png")
    bad = {
        tmp_path / "missing.mp4": "no such file",
        empty: "an empty file",
        text: "not a video or audio file that FFmpeg can read",
        write_sound(tmp_path / "audio.mp4", tones(1), codec="aac"): "no video stream in it, only audio (aac)",
        cut(tmp_path / "cut.mp4", bikes): "truncated: it ends at",
        tmp_path / "frames": "a folder of images has no frame rate of its own",
    }
    output = tmp_path / "out"
    paths = [str(path) for path in (good[0], *bad, good[1])]
    result = CliRunner().invoke(
        cli, ["extract", "timm", *paths, *LITE0, "--extraction-fps", "5", "--output-path", str(output)]
    )
    assert result.exit_code == 1
    failures = [line for line in result.stderr.splitlines() if line.startswith("failed")]
    assert len(failures) == len(bad)
    for (path, reason), line in zip(bad.items(), failures, strict=True):
        assert line.startswith(f"failed: timm: {path}: ") and reason in line
    assert "Traceback" not in result.output
    assert "2 done, 0 skipped, 6 failed" in result.stderr
    written = {path.name.partition("_")[0] for path in output.glob("timm/**/*") if path.is_file()}
    assert written == {"good0", "good1"}


def test_a_rate_too_low_for_a_single_frame_is_a_failure_not_an_empty_file(tmp_path: Path) -> None:
    video = write_video(tmp_path / "short.mp4", grey_levels(5))
    extractor = load("timm", model_name="tf_efficientnet_lite0", extraction_fps=0.1)
    with pytest.raises(
        MediaError,
        match=r"short\.mp4: too short for timm: 0 frames at 0\.1 fps, and one row needs at least 1 frame at 0\.1 fps;",
    ):
        extractor.extract(video)


def test_a_network_that_fails_costs_its_feature_alone(
    tmp_path: Path, standin_file: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from video_features.runtimes.choose import Runner

    run = Runner.__call__

    def out_of_memory(self: Runner, *given: Any) -> object:
        features, logits = run(self, *given)
        if features.shape[1] == 512:
            raise RuntimeError("CUDA out of memory.\nTried to allocate")
        return features, logits

    monkeypatch.setattr(Runner, "__call__", out_of_memory)
    video = write_video(tmp_path / "a.mp4", grey_levels(4))
    timm, resnet = extract(
        video,
        ["timm", "resnet"],
        timm={"model_name": "tf_efficientnet_lite0"},
        resnet={"model_name": "resnet18", "weights": standin_file("resnet", "resnet18")},
    )
    assert (timm.feature, timm.status) == ("timm", "done")
    assert (resnet.feature, resnet.status) == ("resnet", "failed")
    assert resnet.reason == f"{video}: RuntimeError: CUDA out of memory. Tried to allocate"


def test_an_output_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", grey_levels(2))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"output_path=.*file: cannot be written \(File exists\)"):
        extract(video, "timm", model_name="tf_efficientnet_lite0", output_path=tmp_path / "file")
