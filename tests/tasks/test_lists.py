"""Lists of videos and the names of their outputs."""

from __future__ import annotations

import io
import os
import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import grey_levels, write_video
from video_features import OutputError, SettingsError, Video, extract, plan, read_list
from video_features.locations import Location, folder_below
from video_features.media import identify
from video_features.settings import RunSettings
from video_features.tasks import videos as lists
from video_features.tasks.videos import Task, tasks, videos_of
from video_features.timeline.segments import Segment


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """Two files named a.mp4 in two folders, and one file named b.mp4."""
    paths = [tmp_path / "in" / name for name in ("one/a.mp4", "two/a.mp4", "two/b.mp4")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not looked into")
    return paths


def listed(text: str, tmp_path: Path, name: str = "list.txt") -> list[Video]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_list(str(tmp_path / name))


def run(tmp_path: Path, **settings: object) -> RunSettings:
    return RunSettings(output_path=tmp_path / "out", **settings)  # type: ignore[arg-type]


def names(found: list[Task]) -> list[str]:
    return [task.name if task.problem is None else "" for task in found]


def test_a_text_file_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a.mp4\n\n  with space.mp4  \nhttps://example.org/c,d.mp4\n"
    expected = [Video("a.mp4"), Video("with space.mp4"), Video("https://example.org/c,d.mp4")]
    assert listed(text, tmp_path) == expected
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert read_list("-") == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["list.txt", "list.csv", "-"])
def test_a_list_in_any_unicode_encoding(
    tmp_path: Path, encoding: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "path,id\r\né.mp4,一\r\nb.mp4,\r\n" if name == "list.csv" else "é.mp4\r\n\r\nb.mp4\r\n"
    mark = {"utf-16-be": b"\xfe\xff", "utf-16-le": b"\xff\xfe"}.get(encoding, b"")
    content = mark + text.encode(encoding)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    assert read_list(name) == [Video("é.mp4", id="一" if name == "list.csv" else None), Video("b.mp4")]


def test_a_list_in_windows_1252_names_existing_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "é.mp4").write_bytes(b"a")
    text = f"path,id\n{tmp_path / 'é.mp4'},à\n{tmp_path / 'a.mp4'},\n"
    (tmp_path / "list.csv").write_bytes(text.encode("cp1252"))
    assert read_list(str(tmp_path / "list.csv")) == [
        Video(str(tmp_path / "é.mp4"), id="à"),
        Video(str(tmp_path / "a.mp4")),
    ]
    assert "list.csv: not UTF-8, read as Windows-1252: " in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not text")
def test_a_list_with_raw_names_of_files(tmp_path: Path) -> None:
    names = [tmp_path / os.fsdecode(name) for name in (b"\xe9.mp4", b"\xe8.mp4")]
    names[0].write_bytes(b"a")
    (tmp_path / "list.txt").write_bytes(b"\n".join(map(os.fsencode, names)))
    found = read_list(str(tmp_path / "list.txt"))
    assert found == [Video(str(name)) for name in names]
    there, missing = tasks(found, run(tmp_path))
    assert there.problem is None
    assert re.search(
        r"no such file: the name is not UTF-8, perhaps Windows-1252; .* save the list as", str(missing.problem)
    )
    (url,) = tasks([Video("https://host/\udce9.mp4")], run(tmp_path))
    assert "the name is not UTF-8, perhaps Windows-1252" in str(url.problem)


def test_a_list_whose_encoding_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("a.mp4\n".encode("utf-16")[:-1])
    with pytest.raises(SettingsError, match=r"list\.txt: not valid text \('utf-16.* save the list as UTF-8"):
        read_list(str(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_bytes("a.mp4\n".encode("utf-16-le"))
    with pytest.raises(
        SettingsError, match=r"not a text file; .* A list in UTF-16 needs a byte order mark: save it as"
    ):
        read_list(str(tmp_path / "list.txt"))


@pytest.mark.parametrize("given", ["", " ", ["a.mp4", ""], {"a": ""}])
@pytest.mark.parametrize("pattern", [None, "*.mp4"])
def test_an_empty_path(given: Any, pattern: str | None) -> None:
    for use in (lambda: videos_of(given, pattern), lambda: Video(""), lambda: read_list("")):
        with pytest.raises(SettingsError, match=r"an empty path; is a shell variable unset\?$"):
            use()


def test_a_csv_of_parts_of_videos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = 'path, start_seconds, end_seconds, id, label\n"a, b.mp4",1.5,4,first,dog\na.mp4,,,,\n\na.mp4,30,,,cat\n'
    expected = [Video("a, b.mp4", 1.5, 4.0, "first"), Video("a.mp4"), Video("a.mp4", 30.0)]
    assert listed(text, tmp_path, "parts.csv") == expected
    assert "ignoring unknown columns: label" in caplog.text
    assert listed(text, tmp_path, "parts.txt") == expected, "the header line must identify a CSV file"
    assert expected[0].segment == Segment(Fraction(3, 2), Fraction(4)) and expected[1].segment is None
    assert [video.named("a") for video in expected] == ["first", "a", "a_30_"]
    assert expected[0].location == "a, b.mp4 [1.5-4 s]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "start_seconds,end_seconds\n1,2\n",
            r"parts\.csv: expected a header line with the columns path,start_sec",
        ),
        (
            "path,start_seconds\na.mp4,1:30\n",
            r"csv, line 2: start_seconds must be a number of seconds, got '1:3",
        ),
        (
            "path,start_seconds,end_seconds\na.mp4,0,1\na.mp4,5,5\n",
            r"line 3: a\.mp4: a segment must start at 0 s or later",
        ),
        ("path,start_seconds\na.mp4,-1\n", r"line 2: a\.mp4: a segment must start at 0 s or later and end after that"),
        ("path,start_seconds\na.mp4,nan\n", r"line 2: a\.mp4: "),
        ("path,end_seconds\na.mp4,inf\n", r"line 2: a\.mp4: "),
        ("path,id\na.mp4,x/y\n", r"line 2: a\.mp4: the id is part of file names and cannot be 'x/y'"),
        ("path,id\n,x\n", r"line 2: the path is empty"),
        ("path,start,End\na.mp4,1,2\n", r"csv: unknown columns start, End; rename or remove them \(known columns: "),
        ("", r"parts\.csv: the list is empty"),
        ("\0\0ftyp", r"parts\.csv: not a text file; is it a video\?"),
        ('path,id\n"a.mp4,x\n', r"parts\.csv, line 1: invalid CSV"),
    ],
)
def test_a_line_that_cannot_be_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        listed(text, tmp_path, "parts.csv")


def test_a_folder_with_a_pattern(videos: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    assert [video.source for video in videos_of(folder, "**/*.mp4")] == sorted(videos)
    assert [video.source for video in videos_of([folder / "two", videos[0]], "*.mp4")] == [*videos[1:], videos[0]]
    with pytest.raises(SettingsError, match=r"in: no file in it matches pattern=\*\.mp4 \('\*\*/\*\.mp4' searches"):
        videos_of(folder, "*.mp4")


def test_flat_names_are_the_files_and_the_second_of_one_name_is_refused_naming_both(
    videos: list[Path], tmp_path: Path
) -> None:
    found = list(tasks(videos_of(videos), run(tmp_path)))
    assert names(found) == ["a", "", "b"]
    assert isinstance(found[1].problem, OutputError) and str(videos[0]) in str(found[1].problem)
    again = list(tasks(videos_of(videos), RunSettings()))
    assert [task.problem for task in again] == [None] * 3, "videos without outputs need no unique names"


def test_mirror_keeps_the_folders_below_input_root(videos: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "in"
    mirrored = run(tmp_path, layout="mirror", input_root=root)
    assert names(list(tasks(videos_of(videos), mirrored))) == ["one/a", "two/a", "two/b"]
    (elsewhere,) = tasks(videos_of(videos[0]), run(tmp_path, layout="mirror", input_root=root / "two"))
    assert re.search(r"a\.mp4: not below input_root=.*two, as layout=mirror requires", str(elsewhere.problem))


@pytest.mark.parametrize(
    ("root", "location", "folder"),
    [
        ("s3://b/in", "s3://b/in/a.mp4", "."),
        ("s3://b/in", "s3://b/in/one/two/a.mp4", "one/two"),
        ("s3://b/in", "s3://b/into/a.mp4", None),
        ("s3://b/in", "/b/in/a.mp4", None),
        ("s3://b/in", "s3://b/in/../../a.mp4", None),
        ("s3://b/in", "s3://b/in//one/a.mp4", "one"),
        ("s3://b/in", "s3://b/in/what?/a.mp4", "what?"),
        ("https://host/in", "https://host/in/one%20two/a.mp4?key=x/y#t=3/4", "one two"),
        ("https://host/in", "https://host/in/one%2F..%2F../a.mp4", None),
        (Path("/b/in"), "/b/in/one/a.mp4", "one"),
        (Path("/b/in"), "file:///b/in/one/a.mp4", "one"),
        (Path("/b/in"), "s3://host/b/in/one/a.mp4", None),
        (Path("/b/in"), "/b/a.mp4", None),
    ],
)
def test_the_folder_below_a_root(root: Location, location: str, folder: str | None) -> None:
    assert folder_below(root, location) == folder


@pytest.mark.parametrize("settings", [{"layout": "mirror"}, {"input_root": Path("in")}])
def test_mirror_needs_its_root(settings: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"layout=mirror and input_root=DIR .* must be given together"):
        RunSettings(**settings)  # type: ignore[arg-type]


def test_the_same_video_listed_twice_is_done_once(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(videos[0].parent)
    both = [
        videos[0],
        "a.mp4",
        "../one/a.mp4",
        Video(videos[0], 0, 2),
        Video("a.mp4", 0, 2),
        "missing.mp4",
        "missing.mp4",
    ]
    found = list(tasks(videos_of(both), run(tmp_path)))
    assert [task.location for task in found] == [str(videos[0]), f"{videos[0]} [0-2 s]", "missing.mp4"]
    assert names(found) == ["a", "a_0_2", ""]


def test_two_parts_of_one_id_are_refused(videos: list[Path], tmp_path: Path) -> None:
    parts = [Video(videos[0], 0, 2, "x"), Video(videos[0], 2, 4, "x")]
    assert names(list(tasks(parts, run(tmp_path)))) == ["x", ""]


def test_shards_are_a_partition(videos: list[Path], tmp_path: Path) -> None:
    given = videos_of([videos[0], videos[0], *videos, *(tmp_path / f"missing{k}.mp4" for k in range(8))])
    whole = [task.location for task in tasks(given, run(tmp_path))]
    parts = [[task.location for task in tasks(given, run(tmp_path, shard=f"{k}/3"))] for k in (1, 2, 3)]
    assert len(whole) == 11 and sorted(location for part in parts for location in part) == sorted(whole)
    assert all(len(part) >= 3 for part in parts)


def test_videos_of_other_shards_are_not_looked_at_where_the_list_streams(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Any] = []
    monkeypatch.setattr(lists, "identify", lambda source, **more: looked_at.append(source) or identify(source, **more))
    found = tasks(videos_of(videos), run(tmp_path, shard="2/3", engine="ray"))
    assert [task.video.source for task in found] == looked_at == [videos[1]]


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1.5/3"])
def test_a_shard_that_cannot_be(shard: str) -> None:
    with pytest.raises(SettingsError, match=rf"shard must be one of 1/n to n/n, such as 1/4, got '{shard}'"):
        RunSettings(shard=shard)


@pytest.mark.slow
def test_parts_of_a_video_are_extracted_each_under_its_id(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", grey_levels(30))
    settings = {"model_name": "tf_efficientnet_lite0", "device": "cpu"}
    (whole,) = extract(video, "timm", **settings)
    (tmp_path / "parts.csv").write_text(f"path,start_seconds,end_seconds,id\n{video},0.2,0.52,x\n{video},1,,\n")
    parts = read_list(str(tmp_path / "parts.csv"))
    assert [planned.shapes["timm"]["timm"] for planned in plan(parts, "timm", **settings)] == [(8, 1280), (5, 1280)]
    first, second = extract(parts, "timm", output_path=tmp_path / "out", **settings)
    assert (first.status, second.status) == ("done", "done")
    assert whole.features is not None and first.features is not None
    assert first.files[0].name == "x_timm.npy" and second.files[0].name == "a_1__timm.npy"
    saved, expected = np.load(first.files[0]), whole.features.values["timm"][5:13]
    assert np.allclose(saved, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert first.features.start_seconds.tolist() == pytest.approx([0.04 * k for k in range(5, 13)])
    assert first.video_seconds == pytest.approx(0.32, abs=0.05)
    again = extract([*parts, Video(video, 0, 0.4, "x")], "timm", output_path=tmp_path / "out", **settings)
    statuses = [(outcome.status, outcome.reason) for outcome in again]
    assert [status for status, _ in statuses] == ["skipped", "skipped", "failed"]
    (other,) = extract(Video(video, 0, 0.4, "x"), "timm", output_path=tmp_path / "out", **settings)
    assert "another segment: expected from 0 s to 0.4 s, found from 0.2 s to 0.52 s" in other.reason
    assert other.reason.startswith(f"{video} [0-0.4 s]: ")
