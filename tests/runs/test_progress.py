"""The progress of a run as a user sees it: on a terminal, in a log file, in a notebook."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable

import pytest

from conftest import Terminal
from video_features import Video
from video_features.features import Outcome
from video_features.runs import progress
from video_features.runs.progress import Progress
from video_features.tasks.videos import Task

A, B, C = (Task(Video(f"{name}.mp4"), number, name) for number, name in enumerate("abc"))


class Clock:
    """The monotonic clock of the progress, which stands still until a test sets it."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Terminal]:
    """Make standard error a terminal of some width. tqdm leaves one column free."""

    def make(columns: int) -> Terminal:
        file = Terminal()
        monkeypatch.setattr(file, "fileno", lambda: 99, raising=False)
        monkeypatch.setattr(os, "get_terminal_size", lambda descriptor: os.terminal_size((columns, 25)))
        monkeypatch.setattr(sys, "stderr", file)
        return file

    return make


def done(task: Task, seconds: float) -> list[Outcome]:
    return [Outcome(task.location, "timm", "done", video_seconds=seconds)]


def skipped(task: Task) -> list[Outcome]:
    return [Outcome(task.location, "timm", "skipped")]


def test_a_log_file_gets_a_line_now_and_then_and_one_clock(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(3, began=90.0)
    clock.now = 99.9
    shown.waiting()
    assert capsys.readouterr().err == ""
    clock.now = 100.0
    shown.waiting()  # ten seconds after the run began
    shown.ready("1: cpu", "CPU (2 cores)")
    clock.now = 110.0
    shown.progress("1: cpu", A, 0.0, 10.0)
    clock.now = 129.9
    shown.progress("1: cpu", A, 4.9, 10.0)
    clock.now = 130.0
    shown.progress("1: cpu", A, 5.0, 10.0)
    clock.now = 150.0
    shown.idle("1: cpu")
    shown.ended(done(A, 10.0))
    clock.now = 170.0
    shown.progress("1: cpu", B, 2.0, None)  # its length is unknown
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "Starting: 0%, 0/3 videos [00:10<?]",
        # Half a video in 20 s leaves 100 s for the rest, and 5 s of video in 20 s are a quarter of real time.
        "CPU (2 cores): 17%, 0/3 videos [00:40<01:40, ×0.25 real time] a.mp4: 5.0 of 10.0 s",
        "CPU (2 cores): 33%, 1/3 videos [01:20<02:00, ×0.2 real time] b.mp4: 2.0 s",
    ]


def test_one_video_and_an_unknown_number_of_videos(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for total in (1, None):
        shown = Progress(total)
        shown.ready("cpu", "CPU (1 core)")
        shown.progress("cpu", A, 0.0, 10.0)
        clock.now += 10.0
        shown.progress("cpu", A, 8.0, 10.0)
    assert capsys.readouterr().err.splitlines() == [
        "CPU (1 core): 80%, [00:10<00:02, ×0.8 real time] a.mp4: 8.0 of 10.0 s",
        "CPU (1 core): 0 videos [00:10, ×0.8 real time] a.mp4: 8.0 of 10.0 s",
    ]


def test_finished_videos_do_not_make_the_rest_look_quick(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(4)
    shown.ended(skipped(A))
    shown.ended(skipped(B))
    shown.progress("cpu", C, 0.0, 10.0)
    clock.now += 60.0
    shown.ended(done(C, 10.0))
    assert "3/4 videos [01:00<01:00," in capsys.readouterr().err


def test_several_processes_share_one_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(3)
    for index, task in enumerate((A, B)):
        shown.ready(f"{index + 1}: cuda:{index}", f"NVIDIA H200 (cuda:{index})")
        shown.progress(f"{index + 1}: cuda:{index}", task, 0.0, 10.0)
    clock.now += 20.0
    shown.progress("1: cuda:0", A, 5.0, 10.0)
    assert capsys.readouterr().err == (
        "2 × NVIDIA H200: 17%, 0/3 videos [00:20<01:40, ×0.25 real time] a.mp4: 5.0 of 10.0 s and 1 more\n"
    )
    assert progress.devices_in_words(["NVIDIA H200 (cuda:0)", "CPU (2 cores)"]) == "NVIDIA H200 + CPU"


def test_a_bar_never_goes_back_while_a_video_is_between_read_and_ended(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Progress(2)
    shown.progress("cpu", A, 9.0, 10.0)
    shown.idle("cpu")  # read, but its last rows are not computed
    clock.now += 30.0
    shown.waiting()
    assert "45%, 0/2 videos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (120, "| 0/3 videos [00:20<01:40, ×0.25 real time] {a}_on_the_bikes.mp4: 5.0 of 10.0 s"),
        (80, "| 0/3 videos [00:20<01:40, ×0.25] {a}_on_…kes.mp4"),
    ],
)
def test_a_terminal_shows_one_bar_that_fits(
    clock: Clock, terminal: Callable[[int], Terminal], columns: int, text: str
) -> None:
    file = terminal(columns)
    shown = Progress(3)
    shown.waiting()
    assert file.getvalue() == "", "a run that is over at once shows no bar"
    shown.ready("cpu", "CPU (2 cores)")
    task = Task(Video("{a}_on_the_bikes.mp4"), 0, "a")  # braces are not taken for fields of the bar
    shown.progress("cpu", task, 0.0, 10.0)
    clock.now += 20.0
    shown.progress("cpu", task, 5.0, 10.0)
    drawn = file.getvalue().split("\r")[-1]
    assert drawn.startswith("CPU (2 cores):  17%|") and drawn.endswith(text) and len(drawn) < columns
    assert "\n" not in file.getvalue()
    shown.close()
    assert file.getvalue().split("\r")[-2].strip() == "", "the bar is removed at the end"


def test_a_terminal_of_unknown_size_gets_lines(clock: Clock, terminal: Callable[[int], Terminal]) -> None:
    file = terminal(0)  # as in `script` or a container without a window
    Progress(1).waiting()
    clock.now += 10.0
    shown = Progress(1, began=90.0)
    shown.waiting()
    assert file.getvalue() == "Starting: 0%, [00:20<?]\n"


def test_a_notebook_without_ipywidgets_gets_a_bar_of_text(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # type: ignore[arg-type]
    for name in ("tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    shown = Progress(2)
    clock.now += 1.0
    shown.ended(done(A, 1.0))
    shown.close()
    assert "\rStarting:  50%|█████     | 1/2 videos [00:01<00:01, ×1 real time]" in capsys.readouterr().err
    assert not recwarn.list


def test_a_long_name_is_shortened_in_the_middle() -> None:
    assert progress.shortened("short.mp4", 9) == "short.mp4"
    assert progress.shortened("holiday_0001.mp4", 11) == "holid…1.mp4"
