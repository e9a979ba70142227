"""The cache of the Hugging Face Hub, compared with what its library finds in it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import try_to_load_from_cache

from video_features.weights import hub_cache
from video_features.weights.hub_cache import cached_file, repository_folder

NAMES = ("model.safetensors", "pytorch_model.bin")
OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def write(hub: Path, *files: str) -> Path:
    """Write files into the folder of a repository. `A -> B` is a symbolic link."""
    folder = hub / "models--org--net"
    folder.mkdir(parents=True)
    for file in files:
        name, _, text = file.partition("=")
        path, _, target = name.partition(" -> ")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if target:
            (folder / path).symlink_to(target)
        else:
            (folder / path).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([f"refs/main={NEW}", f"snapshots/{NEW}/{NAMES[0]} -> ../../blobs/1", "blobs/1=x"], f"{NEW}/{NAMES[0]}"),
        ([f"refs/main={NEW}", f"snapshots/{NEW}/{NAMES[0]}", f"snapshots/{NEW}/{NAMES[1]}"], f"{NEW}/{NAMES[0]}"),
        ([f"refs/main={NEW}", f"snapshots/{NEW}/{NAMES[1]}", f"snapshots/{OLD}/{NAMES[0]}"], f"{NEW}/{NAMES[1]}"),
        ([f"refs/main={NEW}", f"snapshots/{NEW}/{NAMES[1]}", f".no_exist/{NEW}/{NAMES[0]}"], f"{NEW}/{NAMES[1]}"),
        ([f"refs/main={NEW}", f"snapshots/{NEW}/{NAMES[0]}", f".no_exist/{NEW}/{NAMES[0]}"], None),
        ([f"refs/main={NEW}", f"snapshots/{NEW}/{NAMES[0]} -> ../../blobs/gone"], None),
        ([f"refs/main={NEW}", f"snapshots/{OLD}/{NAMES[0]}"], None),
        ([f"refs/main={NEW}\n", f"snapshots/{NEW}/{NAMES[0]}"], None),
        (["refs/main=", f"snapshots/{NEW}/{NAMES[0]}"], None),
        ([f"refs/main={NEW}"], None),
        ([f"snapshots/{NEW}/{NAMES[0]}"], None),
        ([], None),
    ],
)
def test_the_file_that_the_library_finds(hub: Path, files: list[str], expected: str | None) -> None:
    folder = write(hub, *files)
    answers = (try_to_load_from_cache("org/net", name) for name in NAMES)
    theirs = next((Path(answer) for answer in answers if isinstance(answer, str)), None)
    assert theirs == (folder / "snapshots" / expected if expected else None), "the library"
    assert hub_cache._by_layout("org/net", NAMES) == theirs
    assert cached_file("org/net", NAMES) == theirs


def test_the_library_is_asked_about_what_is_not_found(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later library may find files in a new layout."""
    found = {NAMES[1]: "/somewhere/else"}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda _, name: found.get(name))
    assert cached_file("org/net", NAMES) == Path("/somewhere/else")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"HF_HOME": "/a/b"},
        {"HF_HOME": "~/b"},
        {"HF_HOME": "$HOME/b"},
        {"HF_HUB_CACHE": "/a/b"},
        {"HF_HUB_CACHE": "~/b", "HF_HOME": "/c"},
        {"HF_HUB_CACHE": "${HOME}/b"},
        {"HUGGINGFACE_HUB_CACHE": "/a/b", "HF_HOME": "/c"},
        {"HUGGINGFACE_HUB_CACHE": "/a/b", "HF_HUB_CACHE": "/c"},
        {"XDG_CACHE_HOME": "/a/b"},
        {"XDG_CACHE_HOME": "~/b"},
        {"XDG_CACHE_HOME": "/a/b", "HF_HOME": "/c"},
        {"HF_HOME": ""},
    ],
)
def test_the_folder_is_the_librarys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), **given}.items():
        monkeypatch.setenv(name, value)
    # The library reads the variables when it is imported: import this module of it again.
    spec = importlib.util.spec_from_file_location("huggingface_hub.again", huggingface_hub.constants.__file__)
    assert spec is not None and spec.loader is not None
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants")
    assert repository_folder("org/net") == Path(again.HF_HUB_CACHE) / "models--org--net"


@pytest.mark.processes
def test_a_file_that_is_there_is_found_without_the_library(tmp_path: Path) -> None:
    folder = write(tmp_path / "hub", f"refs/main={NEW}", f"snapshots/{NEW}/{NAMES[0]}")
    code = (
        "import sys; from video_features.weights.obtain import Weights, find\n"
        f"print(find(Weights(repository='org/net', filenames={NAMES})), 'huggingface_hub' in sys.modules)"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.stdout.split() == [str(folder / "snapshots" / NEW / NAMES[0]), "False"], found.stderr
