"""Both command lines as a user sees them: help, output, errors and exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from conftest import grey_levels, write_video
from video_features import SettingsError, Video, registry
from video_features.cli import reference as reference_cli
from video_features.cli.main import cli

MAIN = Path(__file__).parents[2] / "main.py"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def saved(folder: Path) -> dict[str, Any]:
    return {path.name: np.load(path) for path in folder.rglob("*.npy")}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "grey.mp4", grey_levels(10))


def test_help_says_what_to_type_first_and_names_every_feature() -> None:
    assert "video-features extract resnet video.mp4" in invoke("--help").output
    listing = invoke("extract", "--help").output
    assert all(name in listing for name in registry.names())
    settings = invoke("extract", "clip", "--help").output
    assert "--extraction-fps FPS" in settings and "default: ViT-B/32" in " ".join(settings.split())


def test_settings_may_be_written_with_dashes_or_underscores(video: Path, tmp_path: Path) -> None:
    for k, options in enumerate((["--model-name", "--extraction-fps"], ["--model_name", "--extraction_fps"])):
        name, fps = options
        result = invoke(
            "extract", "timm", video, name, "tf_efficientnet_lite0", fps, 5, "--output-path", tmp_path / str(k)
        )
        assert result.exit_code == 0, result.output
    first, second = (saved(tmp_path / str(k)) for k in range(2))
    assert len(first["grey_timm.npy"]) == 2
    assert np.array_equal(first["grey_timm.npy"], second["grey_timm.npy"])


def test_several_features_have_their_own_settings_and_weights(
    video: Path, tmp_path: Path, standin_file: Callable[[str, str], Path]
) -> None:
    result = invoke(
        *("extract", "timm,resnet", video, "--timm.model-name", "tf_efficientnet_lite0", "--timm.extraction-fps", 5),
        *("--resnet.model-name", "resnet18", "--resnet.weights", standin_file("resnet", "resnet18")),
        *("--batch-size", 4, "--output-path", tmp_path / "out"),
    )
    assert result.exit_code == 0, result.output
    arrays = saved(tmp_path / "out")
    assert arrays["grey_timm.npy"].shape == (2, 1280)
    assert arrays["grey_resnet.npy"].shape == (10, 512)


def test_a_list_of_paths_from_a_file(video: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"\n{video}\n\n{tmp_path / 'missing.mp4'}\n", encoding="utf-8")
    result = invoke(
        *("extract", "timm", "--file-with-video-paths", tmp_path / "list.txt", "--model-name", "tf_efficientnet_lite0"),
        *("--output-path", tmp_path / "out"),
    )
    assert result.exit_code == 1
    assert "1 done, 0 skipped, 1 failed" in result.stderr


def test_predictions_are_a_table_with_times(bikes: Path, tmp_path: Path) -> None:
    result = invoke(
        *("extract", "timm", bikes, "--model-name", "tf_efficientnet_lite0", "--extraction-fps", 0.5, "--show-pred"),
        *("--output-path", tmp_path),
    )
    assert "timm  4.00–6.00 s\n  Logits | Prob. | Label" in result.stdout
    assert "unicycle, monocycle" in result.stdout
    assert (tmp_path / "timm" / "tf_efficientnet_lite0" / "bikes_timm_pred.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "resnett", "a.mp4"], "unknown feature 'resnett': did you mean resnet?"),
        (["extract", "resnet"], "no videos: give one or more paths"),
        (["extract", "resnet", "a.mp4", "--model-name", "resnet181"], "unknown resnet model_name 'resnet181': did you"),
        (["extract", "clip", "a.mp4", "--model-name", "vit-b/32"], "did you mean ViT-B/32"),
        (["extract", "timm", "a.mp4"], "timm needs a model_name"),
        (["extract", "resnet", "a.mp4", "--batch-size", "two"], "batch_size must be a whole number, got 'two'"),
        (["extract", "resnet", "a.mp4", "--batch-size", "0"], "batch_size must be greater than 0, got 0"),
        (["extract", "resnet", "a.mp4", "--extraction-fps", "1", "--extraction-total", "2"], "mutually exclusive"),
        (
            ["extract", "resnet", "a.mp4", "--on-extraction", "save"],
            "unknown on_extraction 'save': did you mean save_numpy or save_pickle?",
        ),
        (["extract", "resnet", "a.mp4", "--device", "cuda:99"], "device 'cuda:99' is not available on this machine"),
        (["extract", "resnet", "a.mp4", "--extraction-fsp", "1"], "--extraction-fps"),
        (["extract", "resnet", "a.mp4", "--fps", "1"], "did you mean --extraction-fps or --source-fps?"),
        (["extract", "resnet,clip", "a.mp4", "--resnet.pred-texts", "x"], "unknown option '--resnet.pred-texts': "),
        (["extract", "--output-path", "out", "resnet", "a.mp4"], "the feature comes first: "),
        (["extract", ",", "a.mp4"], "unknown feature ''"),
        (["models", "timm", "zzz"], "no timm model has 'zzz' in its name"),
        (["models", "tim"], "unknown feature 'tim': did you mean timm?"),
        (["extract", "resnet", "--file-with-video-paths", "nowhere.txt"], "nowhere.txt: cannot be read"),
        # An unset shell variable: --output-path "$OUT".
        (["extract", "resnet", "a.mp4", "--output-path", ""], "output_path is empty; was a shell variable unset?"),
        (["extract", "resnet", "a.mp4", "--weights", " "], "weights is empty; was a shell variable unset?"),
        (["extract", "i3d", "a.mp4", "--weights.rgb", ""], "weights.rgb is empty; was a shell variable unset?"),
        (["extract", "resnet", "a.mp4", "--device", ""], "device is empty"),
        (["extract", "resnet", "a.mp4", "--file-with-video-paths", ""], "file_with_video_paths: an empty path"),
        (["status", ""], "output_path: an empty path"),
        (["demo", "--output-path", ""], "output_path is empty"),
        (
            ["extract", "resnet", "nowhere.mp4", "--extraction-fps", "1e-9"],
            "extraction_fps must be at least 0.00001, got 1e-09 (from one frame a day to",
        ),
        (
            ["extract", "resnet", "nowhere.mp4", "--extraction-total", "1000000000"],
            "extraction_total must be at most 1000000, got 1000000000 (a million frames are 11 hours at 25 fps",
        ),
        (
            ["extract", "resnet", "a.mp4", "--memory-limit", "lots"],
            "memory_limit must be a number of bytes, such as 4GB",
        ),
    ],
)
def test_wrong_usage_is_explained_with_status_2(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.endswith("\n") and result.stderr.count("\n") == 1


def test_a_dry_run_tells_rows_and_shapes_and_writes_nothing(video: Path, tmp_path: Path, bikes: Path) -> None:
    missing, output = tmp_path / "missing.mp4", tmp_path / "out"
    result = invoke(
        "extract", "r21d,clip", bikes, video, missing, "--extraction-fps", 5, "--dry-run", "--output-path", output
    )
    assert result.exit_code == 1 and not output.exists()
    assert result.stdout.splitlines() == [
        f"{bikes}: 10.00 s at 25 fps",
        "  r21d: 50 frames → 3 rows, (3, 512)",
        "  clip: 50 frames → 50 rows, (50, 512)",
        f"{video}: 0.40 s at 25 fps",
        "  clip: 2 frames → 2 rows, (2, 512)",
    ]
    assert f"would fail: r21d: {video}: too short for r21d: 2 frames at 5 fps, and one row needs" in result.stderr
    assert f"would fail: r21d: {missing}: no such file" in result.stderr
    matroska = write_video(tmp_path / "a.mkv", grey_levels(16))
    assert "  r21d: about 16 frames → about 1 row, (1, 512)" in invoke("extract", "r21d", matroska, "--dry-run").stdout
    nowhere = invoke("extract", "r21d", bikes, "--weights", tmp_path / "no.pth", "--dry-run")
    assert nowhere.exit_code == 1 and "no such weights file" in nowhere.stderr


def test_a_setting_may_name_its_feature_also_where_there_is_one(bikes: Path) -> None:
    result = invoke("extract", "r21d", bikes, "--r21d.stack-size", 10, "--dry-run")
    assert "  r21d: 250 frames → 16 rows, (16, 512)" in result.stdout  # the step_size of r21d stays 16


def test_the_reference_command_line_has_a_dry_run_too(bikes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["feature_type=s3d", f"video_paths={bikes}", "stack_size=24", "step_size=8", "dry_run=true"]
    assert reference_cli.main(words) == 0
    assert "  s3d: 250 frames → 29 rows, (29, 1024)" in capsys.readouterr().out


def test_parts_of_a_setting_are_given_by_a_dot(video: Path, tmp_path: Path) -> None:
    failed = invoke("extract", "i3d", video, "--streams", "rgb", "--weights.rgb", tmp_path / "no.pt")
    assert failed.exit_code == 1 and f"i3d_rgb: no such weights file: {tmp_path / 'no.pt'}" in failed.stderr
    words = ["feature_type=i3d", "streams=rgb", "weights.rgb=no.pt", "video_paths=a.mp4"]
    assert reference_cli.translate(words)[2]["weights.rgb"] == "no.pt"


def test_models() -> None:
    assert invoke("models", "resnet").output.split() == ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    assert {"ViT-B/32", "ViT-B-32/laion2b_s34b_b79k"} <= set(invoke("models", "clip").output.split())
    assert invoke("models", "timm", "tf_efficientnet_lite0").output.split() == [
        "tf_efficientnet_lite0",
        "tf_efficientnet_lite0.in1k",
    ]


def test_weights_commands_on_the_packaged_file() -> None:
    options = ("timm", "--model-name", "tf_efficientnet_lite0")
    assert invoke("weights", "list", *options).output.splitlines()[1].startswith("tf_efficientnet_lite0  yes   19 MB")
    assert "sha256 579344248a93" in invoke("weights", "fetch", *options).output
    assert "as published" in invoke("weights", "verify", *options).output


def test_ctrl_c_says_what_is_left_with_status_130(monkeypatch: pytest.MonkeyPatch, video: Path, tmp_path: Path) -> None:
    from video_features.outputs.files import FileSink

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(FileSink, "write", interrupted)
    result = invoke(
        "extract", "timm", video, "--model-name", "tf_efficientnet_lite0", "--output-path", tmp_path / "out"
    )
    assert result.exit_code == 130
    assert "interrupted: 0 done" in result.stderr
    assert not [path for path in (tmp_path / "out" / "timm").rglob("*") if path.is_file()]


def test_the_reference_command_line_writes_the_same_files(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_video(tmp_path / "with space.mp4", grey_levels(4))
    words = ["feature_type=timm", "model_name=tf_efficientnet_lite0", "extraction_fps=null", "batch_size=3"]
    words += ["on_extraction=save_numpy", "tmp_path=./t", "device=cuda:99"]
    words += [f"video_paths=[{video}, {other}]", f"output_path={tmp_path / 'theirs'}", "isolate=false"]
    assert reference_cli.main(words) == 0
    stderr = capsys.readouterr().err
    assert "Warning: device 'cuda:99' is not available" in stderr and "using the CPU instead" in stderr
    invoke("extract", "timm", video, other, "--model-name", "tf_efficientnet_lite0", "--output-path", tmp_path / "ours")
    theirs = saved(tmp_path / "theirs" / "timm" / "tf_efficientnet_lite0")
    assert set(theirs) == set(saved(tmp_path / "ours")) and "with space_timm.npy" in theirs
    for name, array in saved(tmp_path / "ours").items():
        assert np.allclose(theirs[name], array, rtol=0, atol=1e-4)


def test_the_reference_prints_by_default(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["feature_type=timm", "model_name=tf_efficientnet_lite0", f"video_paths={video}", "extraction_total=2"]
    assert reference_cli.main(words) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("timm\n") and "; mean: " in printed and "timestamps_ms" in printed


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("a.mp4", ["a.mp4"]),
        ("[a.mp4, b.mp4]", ["a.mp4", "b.mp4"]),
        ("['a b.mp4', \"c.mp4\"]", ["a b.mp4", "c.mp4"]),
        ("a: b.mp4", ["a: b.mp4"]),
        ("[odd.mp4", ["[odd.mp4"]),
        ("2024", ["2024"]),
        ("'quoted.mp4'", ["quoted.mp4"]),
    ],
)
def test_video_paths_as_omegaconf_reads_them(value: str, paths: list[str]) -> None:
    assert reference_cli.translate(["feature_type=resnet", f"video_paths={value}"])[1] == paths


def test_file_with_video_paths_and_keys_of_other_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("a.mp4\n\nb.mp4\n")
    words = [
        "feature_type=resnet",
        f"file_with_video_paths={tmp_path / 'list.txt'}",
        "stack_size=8",
        "keep_tmp_files=true",
    ]
    feature, paths, settings = reference_cli.translate(words)
    assert (feature, paths) == ("resnet", [Video("a.mp4"), Video("b.mp4")])
    assert settings["on_extraction"] == "print" and "stack_size" not in settings
    assert "stack_size has no meaning for feature_type=resnet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["video_paths=a.mp4"], "feature_type=… is missing"),
        (["feature_type=resnet"], "no videos: give video_paths=PATH"),
        (["feature_type=resnet", "video_paths=a.mp4", "modle_name=resnet18"], "unknown key .*did you mean model_name"),
        (["feature_type=resnet", "a.mp4"], "expected key=value, found 'a.mp4'"),
    ],
)
def test_wrong_reference_command_lines_are_explained(words: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        reference_cli.translate(words)
