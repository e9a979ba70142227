"""What a run tells a newcomer: what it does, where, and how it ended. What is left of a run that cannot begin."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from conftest import grey_levels, write_video
from video_features import WeightsError, extract
from video_features.cli.main import cli
from video_features.cli.report import _Text
from video_features.cli.summary import Summary, duration
from video_features.features import Outcome
from video_features.tasks.work import Work

pytestmark = pytest.mark.usefixtures("installed_families")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a.mp4", grey_levels(5))


def command(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_a_run_says_what_it_extracts_and_where_it_computes(
    video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("extract", "colour,trouble", video, "--device", "cpu", "--output-path", tmp_path / "out")
    with caplog.at_level(logging.INFO):
        assert command(*words).exit_code == 0
    first, *loading = caplog.messages
    assert first == f"Extracting colour and trouble into {tmp_path / 'out'}"
    assert [re.sub(r"\d+ cores?", "N cores", text) for text in loading] == [
        "Loading colour on CPU (N cores) with PyTorch",
        "Loading trouble on CPU (N cores) with PyTorch",
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        again = command(*words)
    assert caplog.messages == [first], "nothing is loaded if everything is done"
    assert again.stderr.splitlines()[-1] == (
        f"0 done, 2 skipped, 0 failed (2 features of each video): nothing new, in {tmp_path / 'out'}"
    )


def test_the_first_line_names_the_networks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        command("extract", "resnet,raft", "a.mp4", "--weights", tmp_path / "no.pth", "--output-path", tmp_path / "out")
    assert caplog.messages[0] == f"Extracting resnet (resnet50) and raft (sintel) into {tmp_path / 'out'}"


def test_quiet_leaves_failures(video: Path, tmp_path: Path) -> None:
    words = ("extract", "colour", video, tmp_path / "missing.mp4", "--device", "cpu", "--quiet")
    result = command(*words, "--output-path", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (1, f"failed: colour: {tmp_path / 'missing.mp4'}: no such file\n")
    assert "--quiet" in command("extract", "colour", "--help").stdout


def test_one_video_needs_no_summary(video: Path, tmp_path: Path) -> None:
    (line,) = command(
        "extract", "colour", video, "--device", "cpu", "--output-path", tmp_path / "out"
    ).stderr.splitlines()
    file = tmp_path / "out" / "colour" / "a_colour.npy"
    assert re.fullmatch(rf"done: {video}: colour \(5, 5\) → {file} \(\d+\.\d s, ×[\d.]+ real time\)", line), line


def summary_of(*outcomes: Outcome, features: int = 1, elapsed: float = 1.0) -> str:
    summary = Summary(len(outcomes), features, time.monotonic() - elapsed, None)
    for outcome in outcomes:
        summary.add(outcome)
    summary.finish()
    return "\n".join(summary.lines())


def test_the_summary_tells_how_much_video_and_how_fast() -> None:
    done = [Outcome(f"{name}.mp4", "clip", "done", video_seconds=1800.0) for name in "abcd"]
    assert summary_of(*done, elapsed=1846.2) == (
        "4 done, 0 skipped, 0 failed: 0 rows from 2 h 0 min of video in 30 min 46 s (×3.9 real time)"
    )
    # Two features of a video share its seconds.
    pair = [Outcome("a.mp4", feature, "done", video_seconds=30.0) for feature in ("clip", "resnet")]
    assert summary_of(*pair, features=2, elapsed=2.0).endswith("30.0 s of video in 2.0 s (×15 real time)")


def test_the_summary_says_nothing_of_speed_where_nothing_was_done() -> None:
    failed = Outcome("a.mp4", "clip", "failed", "a.mp4: no such file", error="MediaError")
    assert summary_of(failed) == "0 done, 0 skipped, 1 failed\n       1 failed: no such file (e.g. a.mp4)"
    assert summary_of(Outcome("a.mp4", "clip", "skipped")) == "0 done, 1 skipped, 0 failed: nothing new"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.71, "4.7 s"), (59.96, "1 min 0 s"), (750, "12 min 30 s"), (12_000, "3 h 20 min")]
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_warning_says_that_it_is_one() -> None:
    def shown(level: int) -> str:
        return _Text().format(logging.LogRecord("a", level, "a.py", 1, "something", (), None))

    assert [shown(level) for level in (logging.INFO, logging.WARNING)] == ["something", "Warning: something"]


@pytest.mark.parametrize("how", ["missing", "do not fit", "found when it has begun"])
def test_a_run_that_cannot_begin_leaves_no_folder(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    loads: list[object] = []

    def refuse(*given: object) -> None:
        loads.append(given)
        if how == "found when it has begun" and len(loads) % 2:
            return  # the first time, before the run is recorded
        raise WeightsError("trouble: the weights do not fit")

    if how != "missing":
        monkeypatch.setattr(Work, "load", refuse)
    weights = ("--weights", tmp_path / "no.pth") if how == "missing" else ()
    words = ("extract", "trouble", video, "--device", "cpu", *weights)
    failed = command(*words, "--output-path", tmp_path / "new" / "out")
    assert failed.exit_code == 1 and failed.stderr.startswith("Error: trouble: "), failed.stderr
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    assert command(*words, "--output-path", tmp_path / "mine").exit_code == 1
    assert (tmp_path / "mine").is_dir() and not list((tmp_path / "mine").iterdir())


def test_a_run_that_cannot_begin_keeps_what_others_have_written(video: Path, tmp_path: Path) -> None:
    list(extract(video, "trouble", device="cpu", output_path=tmp_path / "out"))
    before = sorted((tmp_path / "out").rglob("*"))
    missing = command(
        "extract", "trouble", "b.mp4", "--weights", tmp_path / "no.pth", "--output-path", tmp_path / "out"
    )
    assert missing.exit_code == 1 and sorted((tmp_path / "out").rglob("*")) == before
