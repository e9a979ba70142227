"""Reads the commands and the Python code of a page, and runs them offline: with small videos, and without networks."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from conftest import grey_levels, tones, write_sound
from video_features import registry
from video_features.cli import main as cli
from video_features.cli import reference
from video_features.extraction import Stream
from video_features.runtimes.base import Placement
from video_features.weights import LocalWeights, Weights

# Other machines, stores, GPUs and folders; and commands with a test of their own, which download or need real weights.
NOT_HERE = ("://", "cuda", "ray", "/shared", "devices", "demo", "fetch")
FRAMES = 100
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
# Words of the pages that stand for a user's own.
PLACEHOLDERS = {
    "FEATURE": "resnet",
    "extract …": "extract resnet a.mp4",
    "main.py …": "main.py feature_type=resnet video_paths=a.mp4",
}
OURS = (["video-features"], ["python", "main.py"])


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """Return the language and the text of each block of code in these languages."""
    return [(language, text) for language, text in BLOCK.findall(page) if language in languages]


def commands(block: str) -> list[list[str]]:
    """Return this package's commands in a block of shell, as words, from `video-features` or `main.py` on."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := _words(line))]


def inline_commands(page: str) -> list[list[str]]:
    """Return the commands in the text of a page, such as `video-features status OUTPUT_PATH`."""
    text = BLOCK.sub("", page)
    return [
        words for code in re.findall(r"`((?:video-features|python main\.py) [^`]+)`", text) if (words := _words(code))
    ]


def _words(line: str) -> list[str]:
    for placeholder, example in PLACEHOLDERS.items():
        line = line.replace(placeholder, example)
    words = shlex.split(line, comments=True)
    for start in OURS:
        if words[: len(start)] == start:
            return words[len(start) - 1 :]
    return []


class StandIn:
    """A runtime without a network: rows of zeros, of the right shape."""

    name, pads, max_rows = "stand-in", False, None

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def prepare(self, size: int) -> None:
        pass

    def encode(self, items: Sequence[Any]) -> tuple[list[Any], int]:
        return list(items), sum(item.nbytes for item in items)

    def forward(self, rows: Sequence[Any]) -> tuple[Any, Any]:
        shape: Any = self._stream.row_shape
        if callable(shape):  # flow, as large as the frame (3, H, W) and its padding to multiples of 8
            shape = 2, *(-(-side // 8) * 8 for side in rows[0][0].shape[1:])
        labels = self._stream.labels
        logits = None if labels is None else np.zeros((len(rows), len(labels)), np.float32)
        return np.zeros((len(rows), *shape), np.float32), logits


@pytest.fixture
def no_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every stream run without weights."""

    class Runner:
        def __init__(self, stream: Stream, placement: Placement) -> None:
            self.device, self.runtime = placement.device, StandIn(stream)

        def __call__(self, rows: Sequence[Any], size: int | None = None) -> tuple[Any, Any]:
            return self.runtime.forward(rows)

        def encode(self, items: Sequence[Any], size: int | None = None) -> tuple[list[Any], int]:
            return self.runtime.encode(items)

    def on(stream: Stream, placement: Placement, cache_key: str) -> None:
        stream.run = Runner(stream, placement)  # type: ignore[assignment]

    monkeypatch.setattr(Stream, "on", on)
    monkeypatch.setattr(Stream, "local_weights", LocalWeights(Path("stand-in.pth"), "0" * 64, Weights()))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video under every name that the pages use: 4 s at 25 fps, 160×128, with sound."""
    folder = tmp_path_factory.mktemp("videos")
    pictures = (picture for _ in range(4) for picture in grey_levels(FRAMES // 4, 128, 160))
    write_sound(folder / "video.mp4", tones(FRAMES / 25), codec="aac", pictures=pictures)
    for name in ("a.mp4", "b.mp4", "b.mkv", "videos/one.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "video.mp4", folder / name)
    (folder / "videos.txt").write_text("a.mp4\nb.mp4\n")
    (folder / "parts.csv").write_text("path,start_seconds,end_seconds\na.mp4,1,3\n")
    return folder


@pytest.fixture
def here(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of an example, with the videos in it."""
    monkeypatch.chdir(shutil.copytree(videos, tmp_path / "here"))
    return tmp_path / "here"


def parse(words: list[str]) -> None:
    """Parse a command of the command line. Raises click.UsageError or SettingsError.

    Writes a file of settings that the command names below the current folder, because it is read at once.
    """
    for before, word in pairwise(words):
        if before == "--config":
            _write(Path(word), "feature: resnet\npaths: a.mp4\n")
        elif word.startswith("config="):
            _write(Path(word.removeprefix("config=")), "feature_type: resnet\nvideo_paths: a.mp4\n")
    if words[0] == "main.py":
        if words[1:]:
            reference.translate(words[1:])
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(click.Command, "invoke", lambda command, context: None)
        # Not the command's own `main`, which ends the process with its errors.
        click.Group.main(cli.cli, words[1:], prog_name="video-features", standalone_mode=False)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def parse_all(page: str) -> None:
    """Parse all commands of a page. In the text, a command may lack its arguments: the text then only names it."""
    for words in (words for _, block in blocks(page, "sh") for words in commands(block)):
        parse(words)
    for words in inline_commands(page):
        if words[1:3] == ["extract", "--config"]:  # the features are in the file, which the page only names
            continue
        with suppress(click.MissingParameter, click.exceptions.NoArgsIsHelpError):
            parse(words)


def run(words: list[str], folder: Path) -> int | str | None:
    """Run a command as a shell in `folder` would, and return its exit status."""
    expanded = [
        path for word in words for path in (sorted(map(str, folder.glob(word))) if "*" in word else ()) or [word]
    ]
    if words[0] == "main.py":
        return reference.main(expanded[1:])
    if words[1] == "extract":  # examples of a page that share a folder may have different settings
        expanded.append("--overwrite")
    try:
        cli.cli.main(expanded[1:], prog_name="video-features", standalone_mode=False)
    except SystemExit as end:
        return end.code
    return 0


def runs_here(words: list[str], folder: Path) -> bool:
    """Return False for a command that needs what a test has not, or a file of settings that an example only names."""
    named = {file for option, file in pairwise(words) if option == "--config"}
    return all((folder / file).exists() for file in named) and not any(
        part in word for word in words for part in NOT_HERE
    )


def run_examples(name: str, page: str, folder: Path) -> int:
    """Run the examples of a page in its order, in one folder and one Python session. Returns how many there were."""
    for root in ("output", "features"):  # outputs that the page reads, perhaps without a command for them
        if read := [feature for feature in registry.names() if f"{root}/{feature}/" in page]:
            words = ["video-features", "extract", ",".join(read), "video.mp4", "--output-path", root]
            assert run(words, folder) == 0
    session: dict[str, Any] = {"__name__": "example", "frames": np.zeros((50, 64, 64, 3), np.uint8)}
    count = 0
    for language, text in blocks(page, "sh", "python"):
        if language == "python":
            exec(compile(text, f"{name}: {text[:60]!r}", "exec"), session)
            count += 1
            continue
        for words in commands(text):
            if runs_here(words, folder):
                assert run(words, folder) in (0, None), f"{name}: {words}"
                count += 1
    return count
