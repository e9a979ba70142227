"""Configuration files: templates, files given with --config and config=, and the settings that a run used."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from conftest import grey_levels, write_video
from stores import objects, s3
from video_features import extract, registry
from video_features.cli import config, reference
from video_features.cli.extract import DEFAULTS
from video_features.cli.main import cli
from video_features.errors import SettingsError
from video_features.settings import RunSettings
from video_features.settings.config import UsedSettings, read_config

__all__ = ["s3"]


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("features", [*registry.names(), "clip,r21d"])
def test_a_template_has_every_setting_with_its_default(features: str, tmp_path: Path) -> None:
    file = written(tmp_path / "run.yaml", run("config", features).stdout)
    required = {"timm.model_name", "model_name"} if features == "timm" else set()
    assert set(config.read(str(file)).settings) <= required
    # Each line that starts with #name: is a setting.
    text = re.sub(r"(?m)^( *)#(?=\w+:)", r"\1", file.read_text(encoding="utf-8"))
    text = text.replace("model_name: null  # must be set", "model_name: resnet18")
    found = config.read(str(written(file, text)))
    assert found.features == features.split(",")
    plain = {"model_name": "resnet18"} if features == "timm" else {}
    default_run, default_settings = registry.resolve_settings(found.features, {**DEFAULTS, **plain})
    parts = {name: value for name, value in found.settings.items() if "weights." not in name}
    assert registry.resolve_settings(found.features, parts) == (default_run, default_settings)
    own = {name.rpartition("weights.")[0] + "weights" if "weights." in name else name for name in found.settings}
    names = {name.rpartition(".")[2] for name in own} if "," in features else own
    expected = {field for name in found.features for field in registry.family(name).Settings.__dataclass_fields__}
    assert names == expected | set(RunSettings.__dataclass_fields__)


def test_a_template_is_written_once(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    first = run("config", "r21d", "--output", file)
    assert (
        first.exit_code == 0
        and "extract --config" in first.stderr
        and file.read_text(encoding="utf-8").startswith("# Settings of")
    )
    again = run("config", "r21d", "--output", file)
    assert again.exit_code != 0 and f"{file}: exists already; remove it, or give another --output" in again.stderr
    assert "unknown feature 'r21': did you mean r21d?" in run("config", "r21").stderr


def resolved(file: Path, features: list[str], **given: Any) -> Any:
    found = config.read(str(file), features).overridden(given, (), None)
    _, by_feature = registry.resolve_settings(features, found.settings)
    return by_feature


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = written(
        tmp_path / "run.yaml",
        "feature: [r21d, i3d]\nr21d: {stack-size: 8}\nr21d.step_size: 4\ni3d:\n  weights: {rgb: a.pt}\nbatch-size: 2\n",
    )
    both = ["r21d", "i3d"]
    found = resolved(file, both)
    assert (found["r21d"].stack_size, found["r21d"].step_size, found["i3d"].stack_size) == (8, 4, 64)
    assert found["i3d"].batch_size == 2 and found["i3d"].weights == {"rgb": Path("a.pt")}
    assert resolved(file, both, stack_size="16")["r21d"].stack_size == 16
    assert resolved(file, both, **{"r21d.batch_size": "3"})["r21d"].batch_size == 3
    rgb = {"i3d.weights": "b.pt", "i3d.streams": "rgb"}
    assert resolved(file, both, **rgb)["i3d"].weights == {"": Path("b.pt")}
    assert resolved(file, both, **{"i3d.weights.rgb": "b.pt"})["i3d"].weights == {"rgb": Path("b.pt")}
    assert resolved(file, ["r21d"])["r21d"].stack_size == 8, "settings of i3d are left out"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature: r21d\nstack_sze: 8", "unknown setting of r21d 'stack_sze': did you mean stack_size"),
        ("feature: r21d\nr21d.stack_sze: 8", "unknown setting of r21d 'stack_sze': did you mean stack_size"),
        ("feature: r21d\noutput_pth: a", "unknown setting of r21d 'output_pth': did you mean output_path?"),
        ("feature: r21d\nclip: {batch_size: 1}", "unknown setting of r21d 'clip.batch_size'"),
        ("feature: r21\n", "unknown feature 'r21': did you mean r21d?"),
        ("batch_size: 1\n", "names no feature; write feature: NAME in the file"),
        ("feature: r21d\nfeature: clip\n", "feature is given more than once"),
        ("feature: r21d\nr21d: {step_size: 1, step_size: 2}\n", "r21d.step_size is given more than once"),
        ("feature: r21d\nr21d: &all {step_size: *all}\n", "a value is nested too deeply, or contains itself"),
        ("[", "not a YAML file (line 1, column 2: expected the node content, but found '<stream end>')"),
        (
            "feature: r21d\na: s3://key:secret@b: c",
            "not a YAML file (line 2, column 21: mapping values are not",
        ),
        ("feature: r21d\nstack_size: many\n", "stack_size must be a whole number, got 'many'"),
    ],
)
def test_mistakes_in_a_file_are_explained(text: str, message: str, tmp_path: Path) -> None:
    found = run("extract", "--config", written(tmp_path / "run.yaml", text), tmp_path / "a.mp4")
    assert found.exit_code == 2 and message in " ".join(found.stderr.split()) and "secret" not in found.stderr
    missing = run("extract", f"--config={tmp_path / 'none.yaml'}", "a.mp4")
    assert missing.exit_code == 2 and "none.yaml: no such file" in " ".join(missing.stderr.split())


def test_a_file_that_powershell_has_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("feature: r21d\noutput_path: é\n", encoding="utf-16")
    assert read_config(str(file), "file") == {"feature": "r21d", "output_path": "é"}


@pytest.mark.parametrize("feature", registry.names())
def test_the_settings_of_every_family_are_written_as_they_are(feature: str, tmp_path: Path) -> None:
    given = {"model_name": "resnet18"} if feature == "timm" else {}
    of_run, by_feature = registry.resolve_settings([feature], given)
    used = UsedSettings(of_run, by_feature)
    found = config.read(str(written(tmp_path / used.name, used.as_text())))
    assert found.features == [feature]
    assert registry.resolve_settings([feature], found.settings) == (of_run, by_feature)


@pytest.fixture
def video(tmp_path: Path, installed_families: None) -> Path:
    return write_video(tmp_path / "grey.mp4", grey_levels(6))


def outcome(result: Result) -> str:
    """How the only video of a run ended: done, skipped or failed."""
    found = re.search(r"^(done|skipped|failed)", result.output, re.MULTILINE)
    assert found is not None, result.output
    return found[0]


def test_what_a_run_used_gives_the_same_run(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shared = ["--output-path", "out", "--device", "cpu", "--on-extraction", "save_pickle"]
    assert outcome(run("extract", "colour", video, *shared, "--extraction-fps", 5)) == "done"
    (file,) = Path("out", "configs").iterdir()
    assert re.fullmatch(r"colour-[0-9a-f]{8}\.yaml", file.name)
    kept = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert kept["feature"] == ["colour"] and kept["colour"]["extraction_fps"] == 5
    assert kept["output_path"] == str(tmp_path / "out") and "device" not in kept
    assert socket.gethostname() not in file.read_text(encoding="utf-8")
    before = file.read_bytes(), file.stat().st_mtime_ns
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    file = tmp_path / "out" / "configs" / file.name
    for command in (["extract", "--config", file, video], ["extract", "colour", video, f"--config={file}"]):
        assert outcome(run(*command, "--shard", "1/1")) == "skipped"
    assert not list(elsewhere.iterdir()) and (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert reference.main([f"config={file}", f"video_paths={video}"]) == 0, "main.py reads it, too"
    # Another setting is another file, and paths may be in the file, too.
    more = written(elsewhere / "run.yaml", f"{file.read_text(encoding='utf-8')}paths: [{video}]\ndevice: cpu\n")
    assert outcome(run("extract", "--config", more, "--output-path", "other", "--extraction-fps", 10)) == "done"
    assert len(list(Path("other", "configs").iterdir())) == 1


def test_a_file_that_cannot_be_written_is_a_warning(
    video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path / "configs", "in the way")
    (outcome,) = extract(video, "colour", output_path=tmp_path, device="cpu")
    assert outcome.status == "done"
    assert "configs" in caplog.text and "the settings of this run are not kept" in caplog.text


def test_no_file_is_written_where_nothing_runs(video: Path, tmp_path: Path) -> None:
    out = ["--output-path", tmp_path / "out", "--device", "cpu"]
    assert run("extract", "colour", video, *out, "--dry-run").exit_code == 0
    assert run("extract", "colour", video, *out, "--batch-size", "none at all").exit_code == 2
    assert run("extract", "colour", tmp_path / "none.txt", "--retry-failed", *out).exit_code == 2
    list(extract([], "colour", output_path=tmp_path / "out", device="cpu"))
    assert not (tmp_path / "out" / "configs").exists()


@pytest.mark.processes
def test_a_store_keeps_the_settings_without_secrets(video: Path, s3: str) -> None:
    out = f"{s3}/test_configs"
    for _ in range(2):
        list(extract(video, "colour", output_path=out, device="cpu"))
    (name,) = (name for name in objects(out) if name.startswith("configs/"))
    assert re.fullmatch(r"configs/colour-[0-9a-f]{8}\.yaml", name)


def test_secrets_are_left_out(tmp_path: Path) -> None:
    settings = {
        "output_path": "s3://key:SECRET@bucket/features",
        "layout": "mirror",
        "input_root": "https://me:SECRET@host/videos?X-Amz-Signature=SECRET",
        "weights": "a.pt",
    }
    resolved_run, by_feature = registry.resolve_settings(
        ["clip", "i3d"], settings | {"clip": {"model_name": "RN50"}, "i3d": {"streams": "rgb"}}
    )
    used = UsedSettings(resolved_run, by_feature)
    assert "SECRET" not in used.as_text() and "key" not in used.as_text()
    kept = read_config(str(written(tmp_path / used.name, used.as_text())), "file")
    assert kept["output_path"] == "s3://bucket/features" and kept["input_root"] == "https://host/videos"
    assert kept["i3d.weights"] == kept["clip.weights"] == str(Path("a.pt").absolute())
    _, again = registry.resolve_settings(["clip", "i3d"], {k: v for k, v in kept.items() if k != "feature"})
    assert {name: (s.model_name if name == "clip" else s.weights) for name, s in again.items()} == {
        "clip": "RN50",
        "i3d": {"": Path("a.pt").absolute()},
    }
    with pytest.raises(SettingsError, match=r"^here: no such file"):
        read_config(str(tmp_path / "none"), "here")
