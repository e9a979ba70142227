"""Startup imports: help pages and usage errors must not wait for heavy libraries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from video_features import SettingsError, registry
from video_features.cli.main import cli

MAIN = str(Path(__file__).parents[2] / "main.py")
MODULE = ("-m", "video_features")
HEAVY = {"torch", "torchvision", "timm", "open_clip", "scipy", "huggingface_hub"}


def imported(*arguments: str, status: int) -> tuple[str, set[str]]:
    """Run Python with these arguments. Return the printed text and the imported packages."""
    run = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True)
    lines = run.stderr.splitlines()
    times = [line for line in lines if line.startswith("import time:")]
    assert run.returncode == status, run.stderr
    assert any(line.endswith(" click") for line in times)  # otherwise -X importtime had no effect
    text = "\n".join([run.stdout, *(line for line in lines if line not in times)])
    return text, {line.rpartition("|")[2].strip().partition(".")[0] for line in times}


@pytest.mark.processes
def test_the_package_imports_no_networks() -> None:
    _, packages = imported("-c", "import video_features, click", status=0)
    assert "video_features" in packages and not packages & {*HEAVY, "numpy"}


# Layers that each process of a run imports, and libraries that a run over local files may not need.
LIGHT = "media, outputs.choose, outputs.read, runtimes.devices, runtimes.memory, runtimes.threads, settings, weights"
RARE = {"yaml", "tqdm", "fsspec", "aiohttp", "soxr", "safetensors", "asyncio", "ssl"}


@pytest.mark.processes
def test_the_layers_below_the_families_import_what_they_need_when_they_need_it() -> None:
    modules = ", ".join(f"video_features.{module}" for module in LIGHT.split(", "))
    code = f"import sys, {modules}; print(*sys.modules)"  # without click, which imports more
    packages = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert {"video_features.media", "numpy"} <= packages and not packages & {*HEAVY, *RARE}


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((*MODULE, "--help"), "First steps"),
        ((*MODULE, "extract", "--help"), "torchvision_video"),
        ((*MODULE, "models"), "torchvision_video"),
        ((*MODULE, "status", "--help"), "OUTPUT_PATH"),
        ((*MODULE, "weights", "--help"), "fetch"),
        ((MAIN, "--help"), "feature_type=FEATURE"),
        *(((*MODULE, "extract", name, "--help"), "--weights") for name in registry.names()),
        ((*MODULE, "extract", "clip,r21d", "--help"), "--r21d.stack-size"),
    ],
)
def test_the_help_imports_no_networks(arguments: tuple[str, ...], expected: str) -> None:
    text, packages = imported(*arguments, status=0)
    assert expected in text and not packages & HEAVY


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((*MODULE, "extract", "resnett", "a.mp4"), "did you mean resnet?"),
        (
            (*MODULE, "extract", "resnet", "a.mp4", "--modle-name", "x"),
            "did you mean --model-name?",
        ),
        ((*MODULE, "extract", "resnet"), "no videos"),
        ((*MODULE, "extract", "resnet", "--file-with-video-paths", "nowhere.txt"), "cannot be read"),
        ((*MODULE, "extract", "resnet", "a.mp4", "--batch-size", "two"), "batch_size must be a whole number"),
        ((*MODULE, "extract", "s3d", "a.mp4", "--stack-size", "5"), "s3d needs a stack_size of at least 13"),
        ((*MODULE, "extract", "i3d", "a.mp4", "--flow-type", "rft", "--dry-run"), "unknown i3d flow_type 'rft'"),
        ((*MODULE, "extract", "raft", "a.mp4", "--flow-dtype", "half"), "unknown flow_dtype 'half'"),
        ((*MODULE, "extract", "resnet", "a.mp4", "--layout", "mirror"), "must be given together"),
        ((*MODULE, "models", "resnett"), "did you mean resnet?"),
        ((*MODULE, "weights", "list", "resnett"), "did you mean resnet?"),
        ((MAIN, "feature_type=resnett", "video_paths=a.mp4"), "did you mean resnet?"),
        ((MAIN, "feature_type=resnet", "video_paths=a.mp4", "modle_name=x"), "did you mean model_name?"),
        ((MAIN, "feature_type=resnet", "video_paths=a.mp4", "batch_size=two"), "batch_size must be a whole number"),
        ((MAIN, "feature_type=resnet", "file_with_video_paths=nowhere.txt"), "cannot be read"),
    ],
)
def test_mistakes_are_told_before_networks_are_imported(arguments: tuple[str, ...], expected: str) -> None:
    text, packages = imported(*arguments, status=2)
    assert expected in text and not packages & HEAVY


@pytest.mark.processes
def test_no_family_imports_a_library_of_networks() -> None:
    code = """
import sys
from video_features import registry
for name in registry.names():
    registry.family(name).Settings
print(*sorted({"torch", "torchvision", "timm", "open_clip"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "\n"


RECORD_IMPORTS = """
import os, sys
def record(event, arguments):
    if event == "import" and arguments[0] in ("torch", "torchvision", "timm", "open_clip"):
        with open(os.environ["IMPORTS"], "a") as file:
            file.write(f"{os.getpid()} {arguments[0]}\\n")
sys.addaudithook(record)
"""


@pytest.mark.processes
def test_what_was_converted_once_starts_without_pytorch(
    tmp_path: Path, bigbuckbunny: Path, standin_file: Callable[[str, str], Path]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(RECORD_IMPORTS)
    imports = tmp_path / "imports.txt"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),  # for worker processes, too
        "IMPORTS": str(imports),
        "TORCH_HOME": str(tmp_path / "torch"),
    }
    command = [sys.executable, *MODULE, "extract", "timm,vggish", str(bigbuckbunny), "--device", "cpu"]
    command += ["--timm.model-name", "tf_efficientnet_lite0", "--timm.extraction-fps", "1"]
    command += ["--vggish.weights", str(standin_file("vggish", "vggish"))]
    rows = []
    for run, isolate in (("cold", "--isolate"), ("warm", "--isolate"), ("warm too", "--no-isolate")):
        imports.write_text("")
        output = tmp_path / run
        subprocess.run([*command, isolate, "--output-path", str(output)], env=environment, check=True)
        assert ("torch" in imports.read_text().split()) == (run == "cold"), imports.read_text()
        rows.append([np.load(next(output.rglob(f"*_{feature}.npy"))) for feature in ("timm", "vggish")])
    for cold, *warm in zip(*rows, strict=True):
        assert len(cold) > 1 and all(np.array_equal(cold, other) for other in warm)


def family_file(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    """Register the feature `other` with a module of this text. Return the name of the module."""
    module = f"other_{abs(hash(text))}"
    (folder / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(registry._modules(), "other", module)
    return module


def test_a_family_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family_file(tmp_path, monkeypatch, "import no_such_library\nSettings = no_such_library.Settings\n")
    with pytest.raises(SettingsError, match=r"other: its package cannot be imported .*no_such_library"):
        registry.family("other")
    assert "cannot be imported" in CliRunner().invoke(cli, ["extract", "other", "--help"]).stderr
