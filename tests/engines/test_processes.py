"""Isolated reader processes: a crash, hang or kill affects one video only; signals leave no partial output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import grey_levels, write_video
from families import command, install
from video_features import VideoFeaturesError, extract, load, registry
from video_features.features import Outcome

pytestmark = pytest.mark.processes
PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two good videos of five frames, one video that crashes its reader, and one video that hangs its reader.

    The last two videos have enough frames that the network sees a frame before the whole video is read.
    """
    folder = tmp_path_factory.mktemp("videos")

    def plain(level: int) -> Any:
        return [np.full((16, 16, 3), level, np.uint8)] * 64

    pictures = {"a": list(grey_levels(5)), "b": list(grey_levels(5)), "crashes": plain(255), "hangs": plain(0)}
    return {
        name: write_video(folder / f"{name}.avi", frames, codec="rawvideo", pix_fmt="bgr24")
        for name, frames in pictures.items()
    }


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return install(tmp_path_factory.mktemp("families") / "site")


@pytest.fixture
def families(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(environment["PYTHONPATH"].split(os.pathsep)[0])
    registry._modules.cache_clear()
    yield
    registry._modules.cache_clear()


def by_name(outcomes: list[Outcome]) -> dict[str, Outcome]:
    return {Path(outcome.location).stem: outcome for outcome in outcomes}


def test_a_video_that_crashes_or_hangs_its_reader_costs_itself(
    videos: dict[str, Path], families: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = [videos["crashes"], videos["a"], videos["hangs"], videos["b"]]
    ended = by_name(
        list(extract(given, "trouble", output_path=tmp_path / "out", devices="cpu,cpu", stall_limit_seconds=10))
    )
    assert {name: outcome.status for name, outcome in ended.items()} == {
        "crashes": "failed",
        "a": "done",
        "hangs": "failed",
        "b": "done",
    }
    assert ended["crashes"].reason == f"{videos['crashes']}: the process reading it died 2 times (signal SIGSEGV)"
    assert "crashes.avi: the process reading it died (signal SIGSEGV); retrying once" in caplog.text
    assert ended["hangs"].reason == (
        f"{videos['hangs']}: no new frame within stall_limit_seconds=10: the decoder or the network hangs"
    )
    written = {path.name.partition("_")[0] for path in (tmp_path / "out" / "trouble").iterdir()}
    assert written == {"a", "b"}


def test_features_are_the_same_from_a_process_with_and_without_files(
    videos: dict[str, Path], families: None, tmp_path: Path
) -> None:
    expected = load("trouble", device="cpu").extract(videos["a"])
    (saved,) = extract(videos["a"], "trouble", output_path=tmp_path / "out", device="cpu", isolate=True)
    (given,) = extract(videos["a"], "trouble", device="cpu", isolate=True)
    for outcome in (saved, given):
        assert outcome.features is not None and outcome.status == "done"
        assert np.array_equal(outcome.features.values["trouble"], expected.values["trouble"])
        assert np.array_equal(outcome.features.start_seconds, expected.start_seconds)
    assert np.array_equal(np.load(saved.files[0]), expected.values["trouble"]) and not given.files


def test_a_time_limit(videos: dict[str, Path], families: None) -> None:
    late, following = extract([videos["hangs"], videos["a"]], "trouble", device="cpu", time_limit_seconds=10)
    assert (late.status, late.reason) == ("failed", f"{videos['hangs']}: not done within time_limit_seconds=10")
    assert following.status == "done"


def test_a_process_that_cannot_start_is_told(videos: dict[str, Path], families: None, tmp_path: Path) -> None:
    broken = tmp_path / "weights.pth"
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(VideoFeaturesError, match=r"weights\.pth"):
        list(extract(videos["a"], "resnet", weights=broken, device="cpu", isolate=True))


# Commands


def start(environment: dict[str, str], *words: object, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words),
        env={**environment, **more},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=allow_sigint if sys.platform != "win32" else None,
    )


def allow_sigint() -> None:
    """Undo what the shell sets for a test run in the background: child processes that ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process is None or process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, "the expected state was never reached"
        time.sleep(0.02)


def began(trace: Path) -> bool:
    return trace.exists() and bool(trace.read_text())


def leftovers(out: Path) -> list[Path]:
    """List leftovers: temporary files and claims."""
    return [*out.rglob("*.tmp"), *(out / ".video_features" / "claims").glob("*")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lacks these signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("how", [["--devices", "cpu,cpu"], ["--device", "cpu", "--no-isolate"]])
def test_an_interrupt_says_what_is_left_and_leaves_nothing(
    environment: dict[str, str], videos: dict[str, Path], tmp_path: Path, sent: signal.Signals, how: list[str]
) -> None:
    out, trace = tmp_path / "out", tmp_path / "trace.txt"
    words = ("extract", "trouble", videos["a"], videos["b"], "--output-path", out, *how)
    process = start(environment, *words, TROUBLE_SECONDS="0.5", TROUBLE_TRACE=str(trace))
    wait_for(lambda: began(trace), process)
    os.killpg(process.pid, sent) if sent == signal.SIGINT else process.send_signal(sent)  # Ctrl-C in a terminal; `kill`
    _, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130, stderr
    assert "interrupted: 0 done, 0 skipped, 0 failed, 2 of 2 left; no file is half-written" in stderr
    assert "Traceback" not in stderr and not leftovers(out) and not list(out.glob("trouble/*"))
    again = start(environment, *words)
    assert again.wait() == 0 and "2 done, 0 skipped, 0 failed" in (again.stderr.read() if again.stderr else "")


@pytest.mark.skipif(sys.platform != "linux", reason="finds the reader process in /proc")
def test_a_killed_reader_is_replaced_and_its_video_done(
    environment: dict[str, str], videos: dict[str, Path], tmp_path: Path
) -> None:
    out, trace = tmp_path / "out", tmp_path / "trace.txt"
    words = ("extract", "trouble", videos["a"], videos["b"], "--output-path", out, "--device", "cpu", "--log-json")
    process = start(environment, *words, TROUBLE_SECONDS="0.5", TROUBLE_TRACE=str(trace))
    wait_for(lambda: began(trace), process)
    os.kill(int(trace.read_text().split()[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    events = [event for event in map(json.loads, err.splitlines()) if event["event"] != "info"]
    assert process.returncode == 0 and [line["event"] for line in events] == [
        "warning",
        "outcome",
        "outcome",
        "summary",
    ]
    assert "died (signal SIGKILL; possibly out of memory); retrying once" in events[0]["message"]
    assert [line["status"] for line in events[1:3]] == ["done", "done"] and not leftovers(out)


@pytest.mark.skipif(sys.platform != "linux", reason="checks in /proc that the reader is gone")
def test_a_killed_command_leaves_no_reader_behind_and_another_takes_over_at_once(
    environment: dict[str, str], videos: dict[str, Path], tmp_path: Path
) -> None:
    out, trace = tmp_path / "out", tmp_path / "trace.txt"
    words = ("extract", "trouble", videos["a"], "--output-path", out, "--device", "cpu")
    process = start(environment, *words, TROUBLE_SECONDS="1", TROUBLE_TRACE=str(trace))
    wait_for(lambda: began(trace), process)
    reader = Path("/proc") / trace.read_text().split()[0]
    process.kill()
    process.wait()
    assert len(list((out / ".video_features" / "claims").glob("*"))) == 1
    wait_for(lambda: not reader.exists())
    again = start(environment, *words)
    assert again.wait() == 0 and not leftovers(out)


def test_two_commands_on_one_folder_share_the_videos(environment: dict[str, str], tmp_path: Path) -> None:
    videos = [
        write_video(tmp_path / f"{k}.avi", [np.full((16, 16, 3), 50 + k, np.uint8)], codec="rawvideo", pix_fmt="bgr24")
        for k in range(20)
    ]
    out, trace = tmp_path / "out", tmp_path / "trace.txt"
    words = ("extract", "trouble", *videos, "--output-path", out, "--devices", "cpu", "--log-json")
    both = [start(environment, *words, TROUBLE_SECONDS="0.2", TROUBLE_TRACE=str(trace)) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=120) and process.returncode == 0
    lines = [line.split() for line in trace.read_text().splitlines()]
    assert sorted(red for _, red, _ in lines) == sorted(str(50 + k) for k in range(20)), "each video must be read once"
