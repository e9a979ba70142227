"""Digests are remembered for files that did not change, and computed anew for every file that did."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from video_features import WeightsError, registry
from video_features.cli.weights import weights
from video_features.weights import Weights, digests
from video_features.weights.digests import Digests, digests_of
from video_features.weights.obtain import fetch, obtain, verify

CONTENT, OTHER = b"content of a checkpoint", b"another of equal length"
assert len(CONTENT) == len(OTHER)
_watched: dict[str, int] = {}


def _count(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(arguments[0]) in _watched:
        _watched[str(arguments[0])] += 1


sys.addaudithook(_count)  # hooks stay until the process ends


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkpoint in PyTorch's cache, whose opens are counted. No time is too recent to be remembered."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(digests, "RACY_NANOSECONDS", 0)
    path = tmp_path / "torch" / "hub" / "checkpoints" / "net.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    _watched[str(path)] = 0
    yield path
    _watched.clear()


def opens(path: Path) -> int:
    return _watched[str(path)]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def entry(path: Path) -> Path:
    (found,) = (path.parents[1] / "video_features" / "digests").iterdir()
    return found


PUBLISHED = Weights(url="https://example.org/net.pth", sha256=sha256(CONTENT)[:8])


def test_a_file_is_read_once(file: Path) -> None:
    for _ in range(3):
        assert obtain(PUBLISHED, model="net").sha256 == sha256(CONTENT)
    assert opens(file) == 1


def test_another_process_does_not_read_it_either(file: Path) -> None:
    verify(file, PUBLISHED)
    file.chmod(0)  # this also changes its ctime
    file.chmod(0o600)
    verify(file, PUBLISHED)
    assert opens(file) == 2
    code = (
        "import sys; from pathlib import Path\n"
        "sys.addaudithook(lambda event, found: print('opened') if event == 'open' and found[0] == sys.argv[1] else 0)\n"
        "from video_features.weights.obtain import Weights, verify\n"
        "print(verify(Path(sys.argv[1]), Weights()), 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    assert found.stdout.split() == [sha256(CONTENT), "False"], found.stderr


@pytest.mark.skipif(os.name != "posix", reason="Windows has no time of change that programs cannot set")
def test_a_file_changed_in_place_with_its_time_restored_is_noticed(file: Path) -> None:
    verify(file, PUBLISHED)
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(OTHER)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    with pytest.raises(WeightsError, match=f"should begin with {PUBLISHED.sha256}, but is {sha256(OTHER)}"):
        verify(file, PUBLISHED)


@pytest.mark.parametrize("keeps_time", [False, True])
def test_a_replaced_file_is_noticed(file: Path, tmp_path: Path, keeps_time: bool) -> None:
    verify(file, Weights())
    (tmp_path / "new").write_bytes(OTHER)
    if keeps_time:
        shutil.copystat(file, tmp_path / "new")
    (tmp_path / "new").replace(file)
    assert verify(file, Weights()) == sha256(OTHER)


def test_so_is_a_link_to_another_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(OTHER)
    link = tmp_path / "link"
    link.symlink_to(file)
    assert verify(link, Weights()) == sha256(CONTENT)
    link.unlink()
    link.symlink_to(tmp_path / "other")
    assert verify(link, Weights()) == sha256(OTHER)


def test_a_file_that_has_just_changed_is_not_remembered(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may change again within the same step of the file system's clock."""
    monkeypatch.setattr(digests, "RACY_NANOSECONDS", 2 * 10**9)
    for count in (1, 2):
        verify(file, PUBLISHED)
        assert opens(file) == count
    monkeypatch.setattr(digests.time, "time_ns", lambda: file.stat().st_ctime_ns + 2 * 10**9 - 1)
    verify(file, PUBLISHED)
    monkeypatch.setattr(digests.time, "time_ns", lambda: file.stat().st_ctime_ns + 2 * 10**9)
    verify(file, PUBLISHED)
    assert opens(file) == 4
    verify(file, PUBLISHED)
    assert opens(file) == 4


def test_a_file_that_changes_while_it_is_read_is_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = digests._computed

    def change_after(path: Path, *given: Any) -> Digests:
        found = compute(path, *given)
        path.write_bytes(OTHER)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(digests, "_computed", change_after)
        assert verify(file, Weights()) == sha256(CONTENT)
    assert verify(file, Weights()) == sha256(OTHER)


@pytest.mark.parametrize("damage", ["cut", "digit", "empty"])
def test_a_damaged_entry_is_read_again(file: Path, damage: str) -> None:
    verify(file, PUBLISHED)
    text = entry(file).read_text()
    digits = sha256(CONTENT)
    damaged = {"cut": text[:-20], "digit": text.replace(digits, digits[:-1] + "g"), "empty": ""}[damage]
    assert damaged != text
    entry(file).write_text(damaged)
    assert verify(file, PUBLISHED) == digits
    assert opens(file) == 2 and entry(file).read_text() == text


def test_another_published_digest_is_compared_with_what_is_remembered(file: Path) -> None:
    verify(file, PUBLISHED)
    with pytest.raises(
        WeightsError, match=r"should begin with 00000000, but is .*; run `video-features weights fetch`"
    ):
        obtain(Weights(url=PUBLISHED.url, sha256="00000000"), model="net")
    assert opens(file) == 1


def test_the_digest_of_git_is_computed_when_it_is_asked_for(file: Path) -> None:
    expected = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()
    if shutil.which("git"):
        command = ["git", "hash-object", "--no-filters", str(file)]
        assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == expected
    assert digests_of(file, with_git_blob=False, reread=False) == Digests(sha256(CONTENT), "")
    for _ in range(2):
        assert digests_of(file, with_git_blob=True, reread=False) == Digests(sha256(CONTENT), expected)
    assert digests_of(file, with_git_blob=False, reread=False).sha256 == sha256(CONTENT)
    assert opens(file) == 2
    with pytest.raises(WeightsError, match=f"its git blob SHA-1 should be {'0' * 40}, but is {expected}"):
        verify(file, Weights(git_blob="0" * 40))


def test_whoever_asks_whether_a_file_is_damaged_has_it_read(file: Path) -> None:
    """A disk that loses a bit changes neither the size of a file nor its times."""
    verify(file, PUBLISHED)
    fetch(PUBLISHED, model="net")
    assert opens(file) >= 2
    count = opens(file)
    fetch(Weights(path=file), model="net")
    assert opens(file) == count + 1
    verify(file, PUBLISHED, reread=True)
    assert opens(file) == count + 2


def test_so_do_the_commands(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.family("resnet"), "published_weights", lambda name: PUBLISHED)
    for command in ("verify", "fetch", "verify"):
        count = opens(file)
        ended = CliRunner().invoke(weights, [command, "resnet", "--model-name", "resnet18"])
        assert ended.exit_code == 0 and sha256(CONTENT) in ended.output, ended.output
        assert opens(file) > count


def test_where_nothing_can_be_written_every_file_is_read(file: Path) -> None:
    (file.parents[1] / "video_features").write_text("a file in place of the folder")
    for count in (1, 2):
        assert verify(file, PUBLISHED) == sha256(CONTENT)
        assert opens(file) == count
