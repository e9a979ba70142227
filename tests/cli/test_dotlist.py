"""The reference tool's command line: options instead of words, configuration files, values that are missing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from conftest import grey_levels, write_video
from video_features import SettingsError
from video_features.cli import reference
from video_features.cli.reference import translate

RESNET = ["feature_type=resnet", "video_paths=a.mp4"]


@pytest.mark.parametrize(
    ("words", "corrected"),
    [
        ("feature_type=resnet --on_extraction save_numpy", "feature_type=resnet on_extraction=save_numpy"),
        ("--on-extraction save_numpy feature_type=resnet", "on_extraction=save_numpy feature_type=resnet"),
        ("--on-extraction=save_numpy", "on_extraction=save_numpy"),
        ("--show_pred --extraction-fps 5", "show_pred=true extraction_fps=5"),
        ("--show_pred feature_type=resnet", "show_pred=true feature_type=resnet"),
        ("--feature_type i3d --video_paths a.mp4 b.mp4", "feature_type=i3d 'video_paths=[a.mp4, b.mp4]'"),
    ],
)
def test_options_are_answered_with_the_words_to_write(words: str, corrected: str) -> None:
    with pytest.raises(SettingsError, match=r"^expected key=value, found '--") as raised:
        translate(words.split())
    assert str(raised.value).endswith(f": write {corrected}")


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["feature_type=resnet", "-h"], []])
def test_help_is_shown_wherever_it_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(words) == 0
    assert "python main.py feature_type=FEATURE video_paths=PATH" in capsys.readouterr().out


# Written as the files in `configs/` of the reference tool.
CONFIG = """\
feature_type: resnet
model_name: "resnet18"  # of the paper
batch_size: 4
extraction_fps: 29.97
extraction_total: null
device: "cpu"
on_extraction: save_numpy
output_path: "./features"
tmp_path: "./tmp"
keep_tmp_files: false
show_pred: false
config: null
video_paths: [a.mp4, "b c.mp4"]
file_with_video_paths: null
"""


def test_a_configuration_file_gives_what_the_words_do_not(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(CONFIG)
    feature, paths, settings = translate([f"config={tmp_path / 'mine.yml'}", "batch_size=8", "extraction_fps=null"])
    assert (feature, paths) == ("resnet", ["a.mp4", "b c.mp4"])
    assert settings == {
        "model_name": "resnet18",
        "batch_size": "8",
        "extraction_fps": None,
        "extraction_total": None,
        "device": "cpu",
        "on_extraction": "save_numpy",
        "output_path": "./features",
        "show_pred": False,
    }


def test_features_are_those_of_the_same_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "grey.mp4", grey_levels(10))
    settings = {"feature_type": "timm", "model_name": "tf_efficientnet_lite0", "video_paths": str(video)}
    settings |= {"extraction_fps": 5, "on_extraction": "save_numpy", "device": "cpu"}  # type: ignore[dict-item]
    (tmp_path / "c.yml").write_text(yaml.safe_dump({**settings, "output_path": str(tmp_path / "file")}))
    assert reference.main([f"config={tmp_path / 'c.yml'}"]) == 0
    assert (
        reference.main([f"{key}={value}" for key, value in settings.items()] + [f"output_path={tmp_path}/words"]) == 0
    )
    file, words = (sorted((tmp_path / name).rglob("*.npy")) for name in ("file", "words"))
    assert [path.name for path in file] == [path.name for path in words] and "grey_timm.npy" in [p.name for p in file]
    assert all(np.array_equal(np.load(a), np.load(b)) for a, b in zip(file, words, strict=True))


def test_parts_of_a_setting_may_be_nested(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("weights:\n  rgb: a.pt\n  flow: b.pt\n")
    words = ["feature_type=i3d", "video_paths=a.mp4", f"config={tmp_path / 'c.yml'}", "weights.flow=c.pt"]
    settings = translate(words)[2]
    assert (settings["weights.rgb"], settings["weights.flow"]) == ("a.pt", "c.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "no videos"),
        ("- a\n- b\n", r"expected lines of key: value, found \"\['a', 'b'\]\""),
        ("model_name resnet18", "expected lines of key: value, found 'model_name resnet18'"),
        ("model_name: [a", "not a YAML file"),
        ("!!python/object/apply:os.system [ls]", "not a YAML file"),
        ("batch_size: 1\nbatch_size: 2\n", "batch_size is given more than once"),
        ("config: other.yml\n", "a file that names another config is not supported"),
        ("output_path: ''\n", r"^config=.*c\.yml: output_path is empty"),
        ("modle_name: resnet18\n", "unknown key .* 'modle_name': did you mean model_name"),
        ("batch_size: many\n", "batch_size must be a whole number, got 'many'"),
        (b"caf\xe9: 1\n", "not a text file in UTF-8"),
    ],
)
def test_a_configuration_file_that_cannot_be_used_is_explained(
    tmp_path: Path, content: str | bytes | None, message: str
) -> None:
    path = tmp_path / "c.yml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    words = ["feature_type=resnet", f"config={path}", *([] if content == "" else ["video_paths=a.mp4"])]
    with pytest.raises(SettingsError, match=message):
        translate(words)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")
def test_a_configuration_that_is_no_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a named pipe"), (tmp_path, "a folder"), ("/dev/null", "a device")):
        with pytest.raises(SettingsError, match=f"^config={path}: expected a file, found {kind}"):
            translate([*RESNET, f"config={path}"])


@pytest.mark.parametrize(
    "words",
    [
        ["output_path=./out", "tmp_path=out"],
        ["output_path=out/", "tmp_path=a/../out"],
        ["output_path=tmp"],  # the default of tmp_path there
        ["tmp_path=output"],  # the default of output_path
        [f"output_path={Path.cwd() / 'x'}", "tmp_path=x"],
    ],
)
def test_output_path_and_tmp_path_must_differ(words: list[str]) -> None:
    with pytest.raises(SettingsError, match="output_path and tmp_path are the same folder"):
        translate([*RESNET, *words])
    assert translate([*RESNET, "output_path=out", "tmp_path=out/tmp"])[2]["output_path"] == "out"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extraction_fps="], r"^extraction_fps is empty; was a shell variable unset\? \(null means: not set\)$"),
        (["output_path=''"], "output_path is empty"),
        (["output_path= "], "output_path is empty"),
        (["show_pred"], r"expected key=value, found 'show_pred' \(write show_pred=VALUE"),
        (["=save_numpy"], "expected key=value, found '=save_numpy'"),
        (["on-extraction=save_numpy"], "unknown key .*'on-extraction': did you mean on_extraction"),
        (["video_paths=[a.mp4, '']"], r"video_paths: expected a path or a list of paths, found \['a.mp4', ''\]"),
        (["video_paths=[a.mp4, null]"], "video_paths: expected a path or a list of paths"),
        (["video_paths=[]"], "no videos"),
        (["file_with_video_paths=nowhere.txt"], "file_with_video_paths=nowhere.txt: cannot be read"),
        (["feature_type=null"], "feature_type=… is missing"),
        (["feature_type=resnte"], "unknown feature 'resnte': did you mean resnet"),
    ],
)
def test_values_that_are_missing_are_explained(words: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        translate([*RESNET, *words])


def test_of_a_key_that_is_given_twice_the_last_counts(capsys: pytest.CaptureFixture[str]) -> None:
    settings = translate([*RESNET, "batch_size=2", "batch_size=3"])[2]
    assert settings["batch_size"] == "3"
    assert "Warning: batch_size is given more than once; batch_size=3 is used" in capsys.readouterr().err
