"""Whatever a file is: whole features, or a reason in a line; and the run goes on. See `corpus.py` for the files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import corpus
import video_features
from corpus import Item, Items
from video_features.errors import MediaError, printable
from video_features.media import frames_of, open_source

SEEDS = range(200)
TIMEOUT_SECONDS = 240  # for all of them together, many times what they need
GROUPS = {
    "no_videos": {},
    "places": {},
    "names": {},
    "streams": {},
    "pictures": {},
    "times": {},
    "truncated": {},
    "flipped": {},
    "flipped, at a rate": {"extraction_fps": 1},
    "flipped, so many": {"extraction_total": 3},
    "jumps": {"extraction_fps": 1},
    "no_files": {},
}
Outcomes = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, carphone: Path, bigbuckbunny: Path) -> dict[str, Items]:
    """The items of every group, each of which ends in a video that is as it should be."""
    needs = {"truncated": (carphone, bigbuckbunny), "flipped": (SEEDS,)}
    groups = {}
    for group in GROUPS:
        kind = group.partition(",")[0]
        folder = tmp_path_factory.mktemp(kind)
        last = corpus.write_video(folder / "the last one.mp4", corpus.grey_levels(25))
        groups[group] = {**getattr(corpus, kind)(folder, *needs.get(kind, ())), last: Item(no_sound=None)}
    return groups


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def told(made: dict[str, Items], outputs: Path) -> Outcomes:
    """How each of them ended, by group, in a process of its own."""
    asked = {
        group: {
            "paths": [os.fspath(path) for path in made[group]],
            "output_path": str(outputs / group),
            "colour": settings,
        }
        for group, settings in GROUPS.items()
    }
    sources = [Path(__file__).parents[1], Path(video_features.__file__).parents[1]]
    command = [sys.executable, "-X", "faulthandler", "-m", "families.run"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources)), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = process.communicate(json.dumps(asked), timeout=TIMEOUT_SECONDS)
        ended = f"ended with {process.returncode}"
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        ended = f"did not end in {TIMEOUT_SECONDS} s"
    lines = [json.loads(line) for line in out.splitlines()]
    assert ended == "ended with 0", f"{ended}, after {lines[-1] if lines else 'nothing'}\n{err[-1500:]}"
    assert "Traceback" not in err
    return {group: [line for line in lines if line["group"] == group] for group in GROUPS}


@pytest.mark.processes
@pytest.mark.parametrize("group", GROUPS)
def test_each_ends_in_whole_features_or_in_a_reason(
    made: dict[str, Items], told: Outcomes, outputs: Path, group: str
) -> None:
    items, ended = made[group], [line for line in told[group] if "status" in line]
    expected = [(os.fspath(path), feature) for path in items for feature in ("colour", "loudness")]
    assert [(one["location"], one["feature"]) for one in ended] == expected
    assert [one["status"] for one in ended[-2:]] == ["done", "failed"]
    for one in ended:
        item = items[Path(one["location"])]
        check = check_features if one["status"] == "done" else check_reason
        check(one, item)
    written = {
        str(path)
        for path in (outputs / group).glob("*/**/*")
        if not path.is_dir() and ".video_features" not in path.parts
    }
    assert written == {file for one in ended for file in one["files"]}, "and nothing of what failed, nor temporary"


@pytest.mark.processes
@pytest.mark.parametrize("group", GROUPS)
def test_a_dry_run_tells_reasons_in_a_line(made: dict[str, Items], told: Outcomes, group: str) -> None:
    planned = [line for line in told[group] if "planned" in line]
    assert [one["location"] for one in planned] == [os.fspath(path) for path in made[group]]
    for one in planned:
        for reason in one["planned"].values():
            check_line(reason, one["location"])


def test_an_image_whose_exif_is_damaged_is_told(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "0.webp", exif=b"Exif\0\0M6\0*\0\0\0\x08")
    with (
        open_source(tmp_path, fps=1) as source,
        pytest.raises(MediaError, match=r"0\.webp: not an image that Pillow can read \(not a TIFF file"),
    ):
        _ = next(frames_of(source)).rgb


def check_features(one: dict[str, Any], item: Item) -> None:
    """That they are what the item says, whole and finite, and in the files."""
    where, rows, seconds = one["location"], np.array(one["rows"]), np.array(one["seconds"])
    assert len(rows) and np.isfinite(rows).all(), where
    assert (np.diff(seconds) >= 0).all() and (np.array(one["end_seconds"]) >= seconds).all(), where
    files = {path.name.removeprefix(f"{path_stem(where)}_"): path for path in map(Path, one["files"])}
    feature = one["feature"]
    record = json.loads(files[f"{feature}.json"].read_text(encoding="utf-8"))
    assert set(files) == {f"{key}.npy" for key in record["arrays"]} | {f"{feature}.json"}, where
    assert np.array_equal(np.load(files[f"{feature}.npy"]), rows) and record["shapes"] == {feature: list(rows.shape)}
    assert np.allclose(np.load(files["timestamps_ms.npy"]), seconds * 1000), where
    if feature == "loudness":
        assert item.no_sound is None or item.sound_rows is not None, f"{where} has sound"
        assert item.sound_rows in (None, len(rows)), f"{where}: {len(rows)}"
        return
    assert item.reason is None, f"{where}: features, and not {item.reason!r}"
    assert item.frames in (None, len(rows)), f"{where}: {len(rows)}"
    if item.pictures is not None:
        assert np.round((rows[:, :3].mean(axis=1) - 16) / 6).tolist() == item.pictures, where
    if item.size is not None:
        assert (rows[0, 3:].tolist(), rows[-1, 3:].tolist()) == tuple(map(list, item.size)), where
    if item.seconds is not None:
        assert seconds.tolist() == pytest.approx(item.seconds, abs=2e-3), where


def check_reason(one: dict[str, Any], item: Item) -> None:
    """That it is the one which the item says, if it says any."""
    check_line(one["reason"], one["location"])
    if one["feature"] == "loudness":
        assert item.sound_rows is None, one["reason"]
        pattern = item.no_sound
    else:
        assert item.pictures is None and item.frames is None, one["reason"]
        pattern = item.reason
    assert pattern is None or re.search(pattern, one["reason"]), one["reason"]


def check_line(reason: str, location: str) -> None:
    """That it is one line, which can be printed, names the file as it is called, and says what is wrong."""
    assert reason.startswith(f"{printable(location)}: "), reason
    rest = reason.removeprefix(f"{printable(location)}: ")
    assert rest and len(reason.splitlines()) == 1 and not re.search(r"[\x00-\x1f\ud800-\udfff]", reason), reason
    assert not rest.startswith(str(Path(printable(location)).parent)), f"it is named twice: {reason}"
    assert not re.search(r"\b[A-Z]\w*(Error|Exception)\b", rest), reason


def path_stem(location: str) -> str:
    return Path(location).stem
