"""Completion in shells: commands, features, models and the values of settings, without libraries of networks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
from click.shell_completion import BashComplete, CompletionItem

from video_features import registry
from video_features.cli import completion
from video_features.cli.main import cli
from video_features.models import clip, raft, resnet
from video_features.models import timm as timm_family


def items(*words: str) -> list[CompletionItem]:
    """What completes the last word."""
    return BashComplete(cli, {}, "video-features", "_VIDEO_FEATURES_COMPLETE").get_completions([*words[:-1]], words[-1])


def completed(*words: str) -> list[str]:
    return [item.value for item in items(*words)]


def test_commands() -> None:
    assert completed("e") == ["extract"]
    assert {"extract", "models", "status", "weights", "demo"} <= set(completed(""))
    assert completed("weights", "") == ["fetch", "list", "verify"]


@pytest.mark.parametrize("command", [["extract"], ["models"], ["weights", "list"], ["weights", "fetch"]])
def test_features(command: list[str]) -> None:
    assert completed(*command, "") == registry.names()
    assert completed(*command, "r") == ["r21d", "raft", "resnet"]
    assert next(item for item in items(*command, "clip")).help == registry.summary("clip")


def test_several_features_are_joined_by_commas() -> None:
    assert completed("extract", "clip,r") == ["clip,r21d", "clip,raft", "clip,resnet"]
    assert completed("extract", "resnet,r21d,r") == ["resnet,r21d,raft"]


def test_models_of_the_feature() -> None:
    assert completed("extract", "resnet", "--model-name", "") == resnet.NAMES
    assert completed("extract", "resnet", "a.mp4", "--model-name", "resnet1") == ["resnet18", "resnet101", "resnet152"]
    assert completed("extract", "raft", "--finetuned-on", "s") == ["sintel", "sintel_v2"]
    assert completed("weights", "fetch", "r21d", "--model-name", "r2plus1d_18") == ["r2plus1d_18_16_kinetics"]
    both = ["extract", "resnet,clip"]
    assert completed(*both, "--resnet.model-name", "resnet3") == ["resnet34"]
    assert completed(*both, "--clip.model-name", "resnet3") == []


def test_values_of_settings() -> None:
    assert completed("extract", "clip", "--runtime", "") == ["auto", "torch", "compile", "openvino"]
    assert completed("extract", "clip", "--precision", "f") == ["fp32", "fp16"]
    assert completed("extract", "r21d", "--tail", "") == ["drop", "pad"]
    assert completed("extract", "i3d", "--streams", "") == ["rgb", "flow"]
    assert completed("extract", "clip", "--engine", "") == ["local", "ray"]
    assert {"print", "save_numpy", "save_pickle"} <= set(completed("extract", "clip", "--on-extraction", ""))
    assert completed("extract", "clip", "--batch-size", "1") == completed("extract", "clip", "--video-stream", "") == []
    assert "--extraction-fps" in completed("extract", "clip", "--extraction")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "may_have_gpu", lambda: False)
    assert completed("extract", "clip", "--device", "") == ["cpu"]
    monkeypatch.setattr(completion, "may_have_gpu", lambda: True)
    monkeypatch.setattr(sys, "platform", "linux")
    assert completed("extract", "clip", "--device", "c") == ["cuda:0", "cpu"]


def test_the_shell_completes_files_and_folders() -> None:
    for words, kind in (
        (["extract", "clip", "vid"], "file"),
        (["extract", "clip", "--weights", "vid"], "file"),
        (["extract", "i3d", "--weights.rgb", "vid"], "file"),
        (["extract", "clip", "--file-with-video-paths", "vid"], "file"),
        (["extract", "clip", "--output-path", "vid"], "dir"),
        (["status", "vid"], "dir"),
        (["demo", "--output-path", "vid"], "dir"),
    ):
        assert [(item.type, item.value) for item in items(*words)] == [(kind, "vid")], words


def test_an_unknown_feature_is_no_error() -> None:
    assert completed("extract", "resnett", "--runtime", "") == registry.names()
    assert completed("weights", "fetch", "resnett", "--model-name", "") == []


def test_models_that_only_a_library_knows_complete_once_they_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "timm")
        patch.setattr(timm_family, "_names", lambda: timm.list_models("resnet*"))
        assert completed("extract", "timm", "--model-name", "resnet5") == []
        assert timm_family.list_models() == timm.list_models("resnet*")
        patch.setattr(timm_family, "_names", None)
        assert "resnet50" in completed("extract", "timm", "--model-name", "resnet5")
    timm_family._names.cache_clear()
    assert "resnet50.a1_in1k" in timm_family.list_models()


def test_names_are_those_of_the_libraries() -> None:
    assert clip.list_models()[: len(clip.OPENAI)] == list(clip.OPENAI)
    assert raft.list_models() == list(raft.NETWORKS)


COMPLETE = """
eval "$(_VIDEO_FEATURES_COMPLETE=bash_source video-features)"
complete -p video-features
COMP_WORDS=(video-features extract resnet --model-name resnet1) COMP_CWORD=4
_video_features_completion video-features
echo "${COMPREPLY[@]}"
"""


@pytest.mark.processes
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_in_bash_without_libraries_of_networks(tmp_path: Path) -> None:
    command = tmp_path / "video-features"
    libraries = "('torch', 'timm', 'open_clip', 'torchvision')"
    hook = f"lambda event, given: exit(given[0]) if event == 'import' and given[0] in {libraries} else None"
    code = f"import sys; sys.addaudithook({hook}); from video_features.__main__ import main; main()"
    command.write_text(f'#!/bin/bash\nexec {sys.executable} -c "{code}" "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    run = subprocess.run(["bash", "-c", COMPLETE], capture_output=True, text=True, env=environment)
    assert run.stdout.splitlines() == [
        "complete -o nosort -F _video_features_completion video-features",
        "resnet18 resnet101 resnet152",
    ], run.stderr
