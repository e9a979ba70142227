"""What is remembered between commands: used only for the same arguments, versions and code, and never if damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from video_features import cache
from video_features.cache import cache_folder, hub_folder, remembered

SOURCE = Path(cache.__file__).parents[1]
# A module of another package. Each call of `square` adds a line to the file `calls`.
COUNTED = """
from pathlib import Path
from video_features.cache import remembered

@remembered("a-library")
def square(number, sign=1):
    with (Path(__file__).parent / "calls").open("a") as file:
        file.write(f"{number}\\n")
    if number < 0:
        raise ValueError("negative")
    return {"square": sign * number * number, "tuple": [1, 2]}
"""


class Package:
    """A package with the module `counted` and a library that it uses, each process of which shares one cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "TORCH_HOME": str(folder / "torch")}
        self.environment["PYTHONPATH"] = os.pathsep.join([str(SOURCE), str(folder)])
        self.write(COUNTED)
        self.install("1.0")

    def write(self, code: str) -> None:
        (self.folder / "counted.py").write_text(code)

    def install(self, version: str) -> None:
        info = self.folder / "a_library.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: a-library\nVersion: {version}\n")

    def start(self, call: str) -> subprocess.Popen[str]:
        code = f"import json, counted; print(json.dumps(counted.{call}))"
        command = [sys.executable, "-B", "-c", code]  # -B: no bytecode of a module that changes within a second
        return subprocess.Popen(command, env=self.environment, stdout=-1, stderr=-1, text=True)

    def run(self, call: str) -> object:
        out, error = (process := self.start(call)).communicate()
        assert process.returncode == 0, error
        return json.loads(out)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().split() if path.exists() else []

    @property
    def entries(self) -> list[Path]:
        return sorted((self.folder / "torch" / "hub" / "video_features" / "facts").iterdir())


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path)


pytestmark = pytest.mark.processes
NINE = {"square": 9, "tuple": [1, 2]}


def test_a_second_process_does_not_call_the_function(package: Package) -> None:
    assert package.run("square(3)") == package.run("square(3)") == NINE
    assert package.calls == ["3"]


def test_other_arguments_versions_or_code_are_other_results(package: Package) -> None:
    package.run("square(3)")
    assert package.run("square(3, -1)") == {"square": -9, "tuple": [1, 2]}
    assert package.calls == ["3", "3"]
    package.install("1.1")
    package.run("square(3)")
    assert package.calls == ["3", "3", "3"]
    package.write(COUNTED.replace("sign * number * number", "sign * number"))
    assert package.run("square(3)") == {"square": 3, "tuple": [1, 2]}


def test_a_library_without_metadata_is_not_trusted(package: Package) -> None:
    (package.folder / "a_library.dist-info" / "METADATA").unlink()
    (package.folder / "a_library.dist-info").rmdir()
    assert package.run("square(3)") == package.run("square(3)") == NINE
    assert package.calls == ["3", "3"]


@pytest.mark.parametrize("damage", ["cut", "empty", "byte", "list", "number", "other key", "not text"])
def test_a_damaged_entry_is_made_anew(package: Package, damage: str) -> None:
    package.run("square(3)")
    (entry,) = package.entries
    whole = entry.read_text()
    found = json.loads(whole)
    entry.write_bytes(
        {
            "cut": whole[: len(whole) // 2].encode(),
            "empty": b"",
            "byte": whole.replace('square\\": 9', 'square\\": 8').encode(),
            "list": b"[]",
            "number": json.dumps({**found, "value": 9}).encode(),
            "other key": json.dumps({**found, "key": found["key"].replace("1.0", "1.1")}).encode(),
            "not text": b"\xff\xfe\x00",
        }[damage]
    )
    assert entry.read_text(errors="replace") != whole
    assert package.run("square(3)") == NINE
    assert package.calls == ["3", "3"]
    assert entry.read_text() == whole and package.entries == [entry]


def test_every_changed_byte_is_noticed_or_means_the_same(tmp_path: Path) -> None:
    path = tmp_path / "entry.json"
    cache.write_entry(path, "key", "value")
    whole = path.read_bytes()
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        assert cache.read_entry(path, "key") in (None, "value")
        assert cache.read_entry(path, "yek") is None


def test_errors_are_not_remembered(package: Package) -> None:
    for _ in range(2):
        process = package.start("square(-1)")
        assert "ValueError: negative" in process.communicate()[1]
    assert package.calls == ["-1", "-1"]


@pytest.mark.parametrize(
    "home",
    [
        "file",
        pytest.param("/sys", marks=pytest.mark.skipif(sys.platform != "linux", reason="has no /sys")),
    ],
)
def test_where_nothing_can_be_written_nothing_is_remembered(package: Package, home: str) -> None:
    """Even root cannot make a folder in a file, nor in /sys."""
    (package.folder / "file").write_text("")
    package.environment["TORCH_HOME"] = str(package.folder / home)
    assert package.run("square(3)") == package.run("square(3)") == NINE
    assert package.calls == ["3", "3"]


@pytest.fixture
def unwritable(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "torch"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_nor_in_a_folder_without_permission(package: Package, unwritable: Path) -> None:
    assert package.run("square(3)") == NINE
    assert list(unwritable.iterdir()) == []


def test_two_processes_at_once(package: Package) -> None:
    processes = [package.start("square(3)") for _ in range(4)]
    assert [json.loads(process.communicate()[0]) for process in processes] == [NINE] * 4
    assert len(package.entries) == 1, "no unfinished file is left"
    before = len(package.calls)
    assert package.run("square(3)") == NINE and len(package.calls) == before


def test_a_caller_may_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    calls: list[int] = []

    @remembered()
    def count(number: int) -> list[int]:
        calls.append(number)
        return [number]

    count(1).append(2)
    assert count(1) == [1] and calls == [1]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_other_users_may_read_what_is_remembered(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        cache.write_entry(tmp_path / "entry.json", "key", "value")
    finally:
        os.umask(before)
    assert (tmp_path / "entry.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "HOME/.cache/torch/hub"),
        ({"XDG_CACHE_HOME": "/a/b"}, "/a/b/torch/hub"),
        ({"XDG_CACHE_HOME": "~/b"}, "HOME/b/torch/hub"),
        ({"TORCH_HOME": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b/hub"),
        ({"TORCH_HOME": "~/b"}, "HOME/b/hub"),
        ({"TORCH_HOME": "~nobody-of-this-name/b"}, "~nobody-of-this-name/b/hub"),
        ({"TORCH_HOME": "relative/"}, "relative/hub"),
        ({"TORCH_HOME": ""}, "hub"),
    ],
)
def test_the_folder_is_the_one_of_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str
) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), **given}.items():
        monkeypatch.setenv(name, value)
    assert hub_folder() == Path(torch.hub.get_dir()), "PyTorch is asked if it is imported"
    monkeypatch.delitem(sys.modules, "torch.hub")
    assert hub_folder() == Path(torch.hub.get_dir()) == Path(expected.replace("HOME", str(tmp_path)))


def test_the_folder_follows_set_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    torch.hub.set_dir(tmp_path)
    assert hub_folder() == tmp_path and cache_folder() == tmp_path / "video_features"


def test_the_folder_while_another_thread_imports_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", "/a")
    monkeypatch.delattr(torch.hub, "get_dir")
    assert hub_folder() == Path("/a/hub")
