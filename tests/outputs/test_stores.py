"""Videos and outputs in an object store: a bucket on a local S3 server."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs
from click.testing import CliRunner

from conftest import grey_levels, write_video
from families import install
from stores import delete, objects, put, s3
from video_features import OutputError, SettingsError, extract, status
from video_features.cli.main import cli
from video_features.features import Outcome

__all__ = ["s3"]


pytestmark = [pytest.mark.usefixtures("installed_families"), pytest.mark.processes]


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    (tmp_path / "in").mkdir()
    return [write_video(tmp_path / "in" / f"{name}.mp4", grey_levels(k)) for k, name in enumerate("abc", start=4)]


@pytest.fixture
def out(s3: str, request: pytest.FixtureRequest) -> str:
    s3fs.S3FileSystem.clear_instance_cache()  # the instances cache listings
    return f"{s3}/{request.node.name}"


def run(paths: Any, out: str, **settings: Any) -> list[Outcome]:
    return list(extract(paths, "colour", output_path=out, device="cpu", **settings))


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


@pytest.mark.parametrize("how", ["save_numpy", "save_pickle"])
def test_a_store_gets_what_a_folder_gets(videos: list[Path], tmp_path: Path, out: str, how: str) -> None:
    here = list(extract(videos, "colour", output_path=tmp_path / "out", on_extraction=how, device="cpu"))
    there = run(videos, out, on_extraction=how)
    names = {path.relative_to(tmp_path / "out").as_posix() for local in here for path in local.files}  # type: ignore[union-attr]
    assert {name for name in objects(out) if name.startswith("colour/")} == names
    for local, remote in zip(here, there, strict=True):
        assert local.features is not None and remote.features is not None
        np.testing.assert_array_equal(remote.features.values["colour"], local.features.values["colour"])
        np.testing.assert_array_equal(remote.features.start_seconds, local.features.start_seconds)
        np.testing.assert_array_equal(remote.features.end_seconds, local.features.end_seconds)
        assert len(remote.features) == len(local.features) and remote.features.fps == 25
        assert [str(path).removeprefix(f"{out}/") for path in remote.files] == [
            path.relative_to(tmp_path / "out").as_posix()
            for path in local.files  # type: ignore[union-attr]
        ]
    assert there[0].features.record["bytes"]["a_colour.npy" if how == "save_numpy" else "a_colour.pkl"] > 80


@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_mirror_keeps_the_folders_of_a_store(videos: list[Path], out: str, s3: str, scheme: str) -> None:
    for name in ("one/a", "one/deep/a", "b"):
        put(f"{s3}/{scheme}_in/{name}.mp4", videos[0].read_bytes())
    root = f"{scheme}://{s3.removeprefix('s3://')}/{scheme}_in"
    outcomes = run(f"{root}/**/*.mp4", f"{out}/out", layout="mirror", input_root=f"{root}/")
    assert statuses(outcomes) == ["done"] * 3
    found = {name for name in objects(f"{out}/out") if name.endswith("_colour.npy")}
    assert found == {f"colour/{name}_colour.npy" for name in ("one/a", "one/deep/a", "b")}


def test_the_record_is_put_last(videos: list[Path], out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put_file = s3fs.S3FileSystem.put_file

    def fails(self: Any, path: str, address: str, *given: Any, **more: Any) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr(s3fs.S3FileSystem, "put_file", fails)
    (failed,) = run(videos[0], out)
    assert failed.status == "failed" and f"{out}/colour: cannot be written (OSError: the network" in failed.reason
    assert "colour/a_colour.npy" in objects(out) and "colour/a_colour.json" not in objects(out)
    monkeypatch.setattr(s3fs.S3FileSystem, "put_file", put_file)
    assert statuses(run(videos[0], out)) == ["done"]


def test_a_second_run_lists_once_and_does_nothing(
    videos: list[Path], out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(videos, out)
    before, calls = objects(out), Counter[str]()
    call_s3 = s3fs.S3FileSystem._call_s3

    def counted(self: Any, method: str, *given: Any, **more: Any) -> Any:
        calls[method if method != "list_objects_v2" else f"list {more.get('Prefix')}"] += 1
        return call_s3(self, method, *given, **more)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    again = run(videos, out)
    assert statuses(again) == ["skipped"] * 3
    expected = 3 + 1 + 1  # a record per video, one earlier read of the first record, and the log of the first run
    assert calls["get_object"] == expected
    listings = {what: count for what, count in calls.items() if what.startswith("list")}
    assert all(count == 1 for count in listings.values()) and len(listings) == 2, listings
    monkeypatch.undo()
    assert set(objects(out)) == set(before), "a second run must not add a log line"
    assert again[0].features is not None and again[0].features.values["colour"].shape == (4, 5)


def test_what_is_not_whole_is_made_again(videos: list[Path], out: str) -> None:
    run(videos, out)
    delete(f"{out}/colour/a_timestamps_ms.npy")
    put(f"{out}/colour/b_colour.npy", b"short")
    put(f"{out}/colour/c_colour.json", b"{")
    assert statuses(run(videos, out)) == ["done"] * 3
    assert statuses(run(videos, out)) == ["skipped"] * 3


def test_what_was_made_otherwise_is_refused_or_replaced(videos: list[Path], out: str) -> None:
    run(videos[0], out, on_extraction="save_pickle")
    (refused,) = run(videos[0], out, extraction_fps=5)
    assert refused.status == "failed"
    assert f"extraction_fps was None and is 5.0; see {out}/colour/a_colour.json" in refused.reason
    (replaced,) = run(videos[0], out, extraction_fps=5, overwrite=True)
    assert replaced.status == "done"
    assert not [name for name in objects(out) if name.endswith(".pkl")], "arrays of the earlier run must be removed"
    assert statuses(run(videos[0], out, extraction_fps=5, overwrite=True)) == ["skipped"]


def test_outputs_that_were_copied_there_are_compared_too(videos: list[Path], tmp_path: Path, out: str) -> None:
    (local,) = extract(videos[0], "colour", output_path=tmp_path / "out", device="cpu")
    for path in local.files:
        assert isinstance(path, Path)
        put(f"{out}/{path.relative_to(tmp_path / 'out').as_posix()}", path.read_bytes())
    (refused,) = run(videos[0], out, extraction_fps=5)
    assert "extraction_fps was None and is 5.0" in refused.reason
    assert statuses(run(videos[0], out)) == ["done"], "without recorded sizes the copies may be incomplete"
    assert statuses(run(videos[0], out)) == ["skipped"]


def test_what_others_write_meanwhile_is_seen(videos: list[Path], tmp_path: Path, out: str) -> None:
    run(videos[0], out)
    assert [state.done for state in status(out)] == [1]
    script = (
        "import sys; from video_features import extract; list(extract(sys.argv[1], 'colour', output_path=sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", script, str(videos[1]), out], env=install(tmp_path / "other"), check=True)
    assert sorted(state.done for state in status(out)) == [2]


def test_names_with_signs_that_mean_something_elsewhere(videos: list[Path], out: str) -> None:
    names = ["talk #1", "talk #2", "what?", "a[1]"]
    for name in names:
        put(f"{out}/in/{name}.mp4", videos[0].read_bytes())
    outcomes = run([f"{out}/in/{name}.mp4" for name in names], f"{out}/features")
    assert statuses(outcomes) == ["done"] * 4
    assert {f"colour/{name}_colour.npy" for name in names} < objects(f"{out}/features").keys()
    assert outcomes[3].features is not None and len(outcomes[3].features.values["colour"]) == 4


def test_features_that_are_gone_say_so(videos: list[Path], out: str) -> None:
    (outcome,) = run(videos[0], out)
    delete(f"{out}/colour/a_colour.npy")
    assert outcome.features is not None
    with pytest.raises(OutputError, match=r"colour/a_colour\.npy: cannot be read \(FileNotFoundError"):
        _ = outcome.features.values["colour"]


def test_failures_status_and_another_try(videos: list[Path], tmp_path: Path, out: str) -> None:
    damaged = tmp_path / "in" / "d.mp4"
    damaged.write_bytes(b"no video")
    assert statuses(run([*videos, damaged], out)) == ["done"] * 3 + ["failed"]
    (state,) = status(out)
    assert (state.videos, state.done, state.failed.total(), state.left) == (4, 3, 1, 0)
    shown = CliRunner().invoke(cli, ["status", out])
    assert shown.exit_code == 0 and "3 done" in shown.output
    write_video(damaged, grey_levels(4))
    assert statuses(run([], out, retry_failed=True)) == ["done"]
    (state,) = status(out)
    assert (state.done, state.failed.total()) == (4, 0)


def test_videos_of_a_store(videos: list[Path], out: str) -> None:
    for path in videos:
        put(f"{out}/in/{path.name}", path.read_bytes())
    put(f"{out}/in/notes.txt", b"no video")
    outcomes = run(f"{out}/in/*.mp4", f"{out}/features")
    assert [outcome.location for outcome in outcomes] == [f"{out}/in/{name}.mp4" for name in "abc"]
    assert statuses(outcomes) == ["done"] * 3
    local = list(extract(videos, "colour", device="cpu"))
    for stored, expected in zip(outcomes, local, strict=True):
        assert stored.features is not None and expected.features is not None
        np.testing.assert_array_equal(stored.features.values["colour"], expected.features.values["colour"])
    with pytest.raises(SettingsError, match=r"in/\*\.mkv: no file matches this pattern"):
        run(f"{out}/in/*.mkv", f"{out}/features")


def test_the_command_line(videos: list[Path], out: str) -> None:
    words = ["extract", "colour", *map(str, videos), "--output-path", f"{out}/", "--device", "cpu", "--log-json"]
    found = CliRunner().invoke(cli, words)
    assert found.exit_code == 0, found.output
    *_, summary = (json.loads(line) for line in found.stderr.splitlines())
    assert summary["done"] == 3
    assert f"{out}/colour/a_colour.npy" in found.stderr
    assert statuses(run(videos, out)) == ["skipped"] * 3


def test_a_store_that_cannot_be_written_stops_the_run(videos: list[Path], s3: str) -> None:
    with pytest.raises(OutputError, match=r"no-such-bucket/.*: cannot be written \((FileNotFound|NoSuchBucket)"):
        run(videos, "s3://no-such-bucket/features")


def test_a_store_needs_its_extra(videos: list[Path], s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_fsspec(name: str, *given: Any, **more: Any) -> Any:
        if name.startswith("fsspec"):
            raise ImportError(name)
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without_fsspec)
    with pytest.raises(OutputError, match=r"s3://bucket/out: a URL needs the extra: .*video_features\[remote\]"):
        run(videos, f"{s3}/out")
