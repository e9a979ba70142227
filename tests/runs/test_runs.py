"""Runs over one output folder: the log, existing outputs, claims, status, and write errors."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from conftest import grey_levels, write_video
from video_features import OutputError, SettingsError, extract, status
from video_features.cli.main import cli
from video_features.extraction import Stream
from video_features.features import Outcome
from video_features.outputs.files import FileSink
from video_features.outputs.formats.numpy import FORMAT as NUMPY
from video_features.outputs.layout import temporary_path
from video_features.outputs.provenance import Provenance
from video_features.runs.claims import Claim, Claims, claim_path
from video_features.runs.ledger.files import FileLedger
from video_features.settings import RunSettings
from video_features.tasks.videos import tasks, videos_of

pytestmark = pytest.mark.usefixtures("installed_families")


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    (tmp_path / "in").mkdir()
    return [write_video(tmp_path / "in" / f"{name}.mp4", grey_levels(4)) for name in "abc"]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "weights.pth").write_bytes(b"one")
    return tmp_path / "weights.pth"


def run(paths: Any, tmp_path: Path, **settings: Any) -> list[Outcome]:
    return list(extract(paths, "trouble", output_path=tmp_path / "out", device="cpu", **settings))


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def command(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def claims_of(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "out" / ".video_features" / "claims").glob("*"))


# The log


def test_every_end_is_a_line(videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "in")
    run(["a.mp4", "missing.mp4"], tmp_path)
    run(["a.mp4"], tmp_path)  # a skipped video adds no line
    (tmp_path / "out" / "outcomes.jsonl").open("a").write('{"torn')
    run(["a.mp4", "missing.mp4", "b.mp4"], tmp_path)
    text = (tmp_path / "out" / "outcomes.jsonl").read_text().replace('{"torn\n', "")
    lines = [json.loads(line) for line in text.splitlines()]
    lines.sort(key=lambda line: line["location"])  # a missing video is reported before other videos are done
    assert [(line["status"], line["location"]) for line in lines] == [
        ("done", "a.mp4"),
        ("done", "b.mp4"),
        ("failed", "missing.mp4"),
        ("failed", "missing.mp4"),  # from the later run
    ]
    done, _, failed, _ = lines
    assert done["path"] == str(videos[0]) and done["rows"] == 4 and done["feature"] == "trouble"
    assert done["video_seconds"] == pytest.approx(0.16) and done["elapsed_seconds"] > 0
    assert len(done["files"]) == 5 and done["process"] == os.getpid()
    assert (failed["reason"], failed["error"]) == ("missing.mp4: no such file", "MediaError")


@pytest.mark.processes
def test_lines_of_many_processes_stay_whole_and_a_torn_one_costs_only_itself(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom video_features.runs.ledger.files import FileLedger\n"
        "ledger = FileLedger(pathlib.Path(sys.argv[1]))\n"
        "for k in range(100): ledger.append([{'path': f'{sys.argv[2]} {k}', 'reason': 'x' * 5000}])"
    )
    (tmp_path / "outcomes.jsonl").write_text('{"feature": "f", "status": "do')
    writers = [subprocess.Popen([sys.executable, "-c", code, tmp_path, str(k)]) for k in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    torn, *lines = (tmp_path / "outcomes.jsonl").read_text().splitlines()
    assert torn == '{"feature": "f", "status": "do'
    found = [json.loads(line)["path"] for line in lines]
    assert sorted(found) == sorted(f"{writer} {k}" for writer in range(3) for k in range(100))
    assert not FileLedger(tmp_path).failed([Provenance("f", {}, {}, {})]), "a torn line must be ignored"


# Existing outputs


def test_whole_outputs_are_not_done_again_and_no_network_is_loaded(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert statuses(run(videos, tmp_path)) == ["done"] * 3

    def loaded(*_: object) -> None:
        raise AssertionError("no network may be loaded")

    monkeypatch.setattr(Stream, "on", loaded)
    assert statuses(run(videos, tmp_path, batch_size=2)) == ["skipped"] * 3


def change_settings(video: Path, weights: Path) -> dict[str, Any]:
    return {"extraction_fps": 5}


def change_weights(video: Path, weights: Path) -> dict[str, Any]:
    weights.write_bytes(b"two")
    return {}


def change_time(video: Path, weights: Path) -> dict[str, Any]:
    os.utime(video, ns=(0, 1_000_000_000_123_456_789))
    return {}


def change_content(video: Path, weights: Path) -> dict[str, Any]:
    write_video(video, grey_levels(9))
    return {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_settings, r"extraction_fps was None and is 5\.0"),
        (change_weights, r"weights of trouble was 7692c3ad\w{56} and is 3fc4ccfe\w{56}"),
        (
            change_time,
            r"has changed since .* \(then \d+ bytes written 20\S+ \S+ UTC, now \d+ bytes written 2001-09-09 01:46:40",
        ),
        (change_content, r"has changed since .* \(then \d+ bytes written .*, now \d+ bytes written "),
    ],
)
@pytest.mark.slow
def test_what_changes_the_numbers_is_told_by_a_rerun_and_by_status(
    videos: list[Path],
    weights: Path,
    tmp_path: Path,
    change: Callable[[Path, Path], dict[str, Any]],
    message: str,
) -> None:
    assert statuses(run(videos, tmp_path, weights=weights)) == ["done"] * 3
    (before,) = status(tmp_path / "out")
    assert (before.videos, before.done, before.left) == (3, 3, 0) and not before.conflicting and not before.notes
    settings = change(videos[1], weights)
    again = run(videos, tmp_path, weights=weights, **settings)
    changes_all = change in (change_settings, change_weights)
    assert statuses(again) == ["failed" if changes_all or k == 1 else "skipped" for k in range(3)]
    assert re.search(message, again[1].reason), again[1].reason
    after, *earlier = status(tmp_path / "out")
    assert [state.done for state in earlier] == ([3] if change is change_settings else [])
    assert after.conflicting.total() == (3 if changes_all else 1) and after.done == (0 if changes_all else 2)
    assert not changes_all or re.search(message, next(iter(after.conflicting)))
    overwritten = run(videos, tmp_path, weights=weights, overwrite=True, **settings)
    assert statuses(overwritten) == ["done" if changes_all or k == 1 else "skipped" for k in range(3)]
    assert status(tmp_path / "out")[0].done == 3


def test_status_tells_of_new_weights_before_any_rerun(videos: list[Path], weights: Path, tmp_path: Path) -> None:
    run(videos, tmp_path, weights=weights)
    weights.write_bytes(b"two")
    (found,) = status(tmp_path / "out")
    assert found.done == 0 and found.conflicting.total() == 3
    assert f"{weights} has changed: its SHA-256 was 7692c3ad" in found.notes[0]
    weights.unlink()
    (found,) = status(tmp_path / "out")
    assert found.done == 3 and "cannot be read" in found.notes[0]


def test_a_video_that_was_moved_is_the_same(videos: list[Path], tmp_path: Path) -> None:
    run(videos[0], tmp_path)
    (tmp_path / "moved").mkdir()
    assert statuses(run(videos[0].rename(tmp_path / "moved" / "a.mp4"), tmp_path)) == ["skipped"]
    other = write_video(tmp_path / "a.mp4", grey_levels(7))
    (refused,) = run(other, tmp_path)
    assert f"{other}: the outputs of this name belong to another video, {videos[0]} (see " in refused.reason


def test_only_what_failed(videos: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "in" / "broken.mp4"
    broken.write_bytes(b"no video")
    out = tmp_path / "out"
    words = ("extract", "trouble", *videos[:2], broken, "--output-path", out, "--device", "cpu")
    assert command(*words).exit_code == 1
    write_video(broken, grey_levels(4))
    retried = command(*words, videos[2], "--retry-failed")
    assert retried.exit_code == 0 and "broken.mp4" in retried.stderr and "a.mp4" not in retried.stderr
    nothing = command("extract", "trouble", "--retry-failed", "--output-path", out, "--device", "cpu")
    assert nothing.exit_code == 0 and "0 done, 0 skipped, 0 failed" in nothing.stderr
    broken.write_bytes(b"no video")
    (refused,) = run(broken, tmp_path)
    assert refused.status == "failed"
    again = command("extract", "trouble", "--retry-failed", "--output-path", out, "--device", "cpu")
    assert again.exit_code == 1 and str(broken) in again.stderr


# Claims


def test_a_claim_is_held_by_one_and_free_again_after_it(tmp_path: Path) -> None:
    record, other = tmp_path / "f" / "a_f.json", tmp_path / "f" / "b_f.json"
    ours, theirs = Claims(tmp_path, 60), Claims(tmp_path, 60)
    claim = ours.claim([record])
    assert claim is not None and theirs.claim([other, record]) is None
    with theirs.claim([other]) as free:  # type: ignore[union-attr]
        assert free is not None, "a refused claim on several records must hold none of them"
    claim.release()
    taken = theirs.claim([record])
    assert taken is not None
    taken.release()


def until_taken(claims: Claims, record: Path) -> Claim:
    waited = threading.Event()
    for _ in range(100):
        if (taken := claims.claim([record])) is not None:
            return taken
        waited.wait(0.05)
    raise AssertionError("the claim was never taken over")


def test_what_another_host_is_silent_about_is_taken_over_and_cleared(tmp_path: Path) -> None:
    record = tmp_path / "f" / "a_f.json"
    record.parent.mkdir()
    claim = Claims(tmp_path, 0.6).claim([record])
    assert claim is not None
    path = claim_path(tmp_path, record)
    text = path.read_text()
    claim.release()
    foreign = text.replace(f"host={socket.gethostname()}", "host=elsewhere")
    assert foreign != text
    path.write_text(foreign)  # without a heartbeat
    leftover, others = temporary_path(record), temporary_path(record.with_name("b_f.json"))
    leftover.touch()
    others.touch()
    ours = Claims(tmp_path, 0.6)
    assert ours.claim([record]) is None, "the other process may be alive"
    until_taken(ours, record).release()
    assert not leftover.exists() and others.exists()


def test_a_claim_that_was_killed_before_it_said_whose_it_is_is_taken_over(tmp_path: Path) -> None:
    record = tmp_path / "f" / "a_f.json"
    path = claim_path(tmp_path, record)
    path.parent.mkdir(parents=True)
    path.touch()
    ours = Claims(tmp_path, 0.6)
    assert ours.claim([record]) is None, "the owner may be about to write its name"
    taken = until_taken(ours, record)
    assert path.read_text(), "the claim must name its owner"
    taken.release()


def test_claims_reckoned_with_other_seconds_are_told(tmp_path: Path) -> None:
    record = tmp_path / "f" / "a_f.json"
    with Claims(tmp_path, 60).claim([record]) as claim:  # type: ignore[union-attr]
        assert claim is not None
        path = claim_path(tmp_path, record)
        path.write_text(path.read_text().replace(f"host={socket.gethostname()}", "host=elsewhere"))
        with pytest.raises(SettingsError, match=r"claim_seconds=30 differs from that of another process that shares"):
            Claims(tmp_path, 30).claim([record])


def test_a_video_that_another_process_is_at_is_waited_for_and_not_done_twice(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(videos[:1], tmp_path / "elsewhere")
    out = tmp_path / "out"
    record = FileSink(out, NUMPY).record_path("a", Provenance("trouble", {}, {}, {}))
    claim = Claims(out, 60).claim([record])
    assert claim is not None

    def finish(*_: object) -> None:  # acts as the other process once this run is idle
        os.renames(tmp_path / "elsewhere" / "out" / "trouble", out / "trouble" / "a")
        for path in (out / "trouble" / "a").iterdir():
            path.rename(out / "trouble" / path.name)
        claim.release()
        clock.sleep = time.sleep

    clock = types.SimpleNamespace(monotonic=time.monotonic, sleep=finish)
    # Only the schedule gets this clock. The reader sleeps as usual.
    monkeypatch.setattr("video_features.runs.schedule.time", clock)
    outcomes = run(videos, tmp_path)
    assert [(Path(outcome.location).name, outcome.status) for outcome in outcomes] == [
        ("b.mp4", "done"),
        ("c.mp4", "done"),
        ("a.mp4", "skipped"),
    ]


def test_what_failed_in_another_process_of_the_same_run_is_not_tried_again(videos: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "in" / "broken.mp4"
    broken.write_bytes(b"no video")
    ours = extract([broken, videos[0]], "trouble", output_path=tmp_path / "out", device="cpu")
    (theirs,) = run(broken, tmp_path)
    write_video(broken, grey_levels(4))
    failed, done = ours
    assert (failed.status, failed.reason, failed.error) == ("failed", theirs.reason, "MediaError")
    assert done.status == "done"
    assert statuses(run(broken, tmp_path)) == ["done"], "the next run must try the video again"
    lines = [json.loads(line) for line in (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["failed", "done", "done"]


@pytest.mark.processes
def test_a_namesake_does_not_free_the_claim_of_the_first(videos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_video(tmp_path / "other" / "a.mp4", grey_levels(4))
    ours = extract([videos[0], other], "trouble", output_path=tmp_path / "out", isolate=True, device="cpu")
    first = next(ours)
    assert [outcome.status for outcome in [first, *ours]] in (["done", "failed"], ["failed", "done"])
    (task, namesake) = tasks(videos_of([videos[0], other]), RunSettings(output_path=tmp_path / "out"))
    assert (task.name, namesake.name) == ("a", "")


# Status and summaries


def test_status_at_any_time(videos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="no run of video-features has written here"):
        status(out)
    outcomes = extract([*videos, tmp_path / "missing.mp4"], "trouble", output_path=out, device="cpu")
    sink = FileSink(out, NUMPY)
    records = (sink.record_path(name, Provenance("trouble", {}, {}, {})) for name in ("b", "c"))
    others = [Claims(out, 60).claim([record]) for record in records]
    assert statuses([next(outcomes), next(outcomes)]) == ["done", "failed"]  # a.mp4 and missing.mp4
    others[1].release()  # type: ignore[union-attr]
    (found,) = status(out)
    shown = command("status", out)
    others[0].release()  # type: ignore[union-attr]
    assert (found.feature, found.videos, found.done, found.left) == ("trouble", 4, 1, 1)
    assert found.failed == {"no such file": 1}
    assert found.under_way[0].startswith(f"{videos[1]} ({socket.gethostname()}, process {os.getpid()}, last heartbeat ")
    for line in ("trouble: 4 videos", "1 done", "1 under way", "1 left", "1 failed", "1 no such file"):
        assert line in shown.stdout
    assert statuses(list(outcomes)) == ["done", "done"]
    assert json.loads(command("status", out, "--json").stdout)[0]["done"] == 3
    missing = command("status", tmp_path / "nowhere")
    assert missing.exit_code == 1 and "no run of video-features has written here" in missing.stderr


def test_lists_of_one_run_add_up_and_other_features_stand_apart(videos: list[Path], tmp_path: Path) -> None:
    run(videos[:2], tmp_path)
    run(videos[2:], tmp_path)
    list(extract(videos[0], "colour", output_path=tmp_path / "out", device="cpu"))
    found = {state.feature: (state.videos, state.done) for state in status(tmp_path / "out")}
    assert found == {"trouble": (3, 3), "colour": (1, 1)}


def test_the_summary_counts_and_groups_the_reasons(videos: list[Path], tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / f"{name}.mp4").write_bytes(b"no video")
    bad = [tmp_path / "x.mp4", tmp_path / "y.mp4", tmp_path / "missing.mp4"]
    result = command("extract", "trouble", *videos, *bad, "--output-path", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 1
    *_, counts, first, second = result.stderr.splitlines()
    # Three videos of four frames at 25 fps, one row each frame.
    assert counts.startswith("3 done, 0 skipped, 3 failed: 12 rows from 0.5 s of video in "), counts
    assert re.search(rf" in \d+\.\d s \(×[\d.]+ real time\), in {tmp_path}/out$", counts), counts
    assert first.strip().startswith("2 failed: not a video or audio file that FFmpeg can read (Invalid data found")
    assert first.endswith(f" (e.g. {bad[0]})") and second.strip() == f"1 failed: no such file (e.g. {bad[2]})"


def test_json_lines(videos: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "missing.mp4"
    result = command(
        "extract", "trouble", videos[0], bad, "--output-path", tmp_path / "out", "--device", "cpu", "--log-json"
    )
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert [line["event"] for line in events] == ["outcome", "outcome", "summary"]
    assert (events[0]["status"], events[0]["rows"]) == ("done", 4)
    assert events[1]["reason"] == f"{bad}: no such file"
    assert (events[2]["done"], events[2]["failed"], events[2]["left"]) == (1, 1, 0)
    assert events[2]["failures"] == {"no such file": 1}


# Write errors


def raise_disk_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_video_too_large_for_the_disk_costs_itself(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, too_large = np.save, ["first"]
    monkeypatch.setattr(
        np,
        "save",
        lambda file, array: (
            raise_disk_full() if array.shape == (4, 3) and too_large and too_large.pop() else save(file, array)
        ),
    )
    outcomes = extract(videos, "trouble", output_path=tmp_path / "out", device="cpu")
    first = next(outcomes)
    assert first.status == "failed" and first.error == "WriteError" and "No space left on device" in first.reason
    assert statuses(list(outcomes)) == ["done", "done"]


def test_a_disk_that_takes_nothing_more_stops_the_run(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "save", raise_disk_full)
    monkeypatch.setattr(Path, "write_bytes", raise_disk_full)
    result = command("extract", "trouble", *videos, "--output-path", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 1
    failed, stopped, error = result.stderr.splitlines()
    assert failed.startswith(f"failed: trouble: {videos[0]}: ") and failed.endswith("(No space left on device)")
    assert stopped == "stopped: 0 done, 0 skipped, 1 failed, 2 of 3 left"
    assert "nothing can be written there any more (No space left on device), so the run stops" in error
    assert not claims_of(tmp_path) and not list((tmp_path / "out").glob("trouble/*"))


def test_an_interrupt_leaves_nothing_half_written_and_says_what_is_left(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = FileSink.write

    def interrupted(self: FileSink, name: str, *given: Any) -> Any:
        if name == "b":
            raise KeyboardInterrupt
        return write(self, name, *given)

    monkeypatch.setattr(FileSink, "write", interrupted)
    result = command("extract", "trouble", *videos, "--output-path", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 130
    assert "interrupted: 1 done, 0 skipped, 0 failed, 2 of 3 left; no file is half-written" in result.stderr
    assert {path.name[0] for path in (tmp_path / "out" / "trouble").iterdir()} == {"a"} and not claims_of(tmp_path)
    monkeypatch.undo()
