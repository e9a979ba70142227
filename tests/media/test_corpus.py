"""Any file gives complete features or a reason in one line, and the run continues. `corpus.py` writes the files."""

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
TIMEOUT_SECONDS = 240  # for all files together; many times the usual duration
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
    "jumps": {"extraction_fps": 1, "gaps": "hold"},
    "no_files": {},
}
Outcomes = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def corpus_items(tmp_path_factory: pytest.TempPathFactory, carphone: Path, bigbuckbunny: Path) -> dict[str, Items]:
    """The files of every group. The last file of each group is an intact video."""
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
def outcomes(corpus_items: dict[str, Items], outputs: Path) -> Outcomes:
    """{group: the outcomes of all files}, from one separate process."""
    requests = {
        group: {
            "paths": [os.fspath(path) for path in corpus_items[group]],
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
        out, err = process.communicate(json.dumps(requests), timeout=TIMEOUT_SECONDS)
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
    corpus_items: dict[str, Items], outcomes: Outcomes, outputs: Path, group: str
) -> None:
    items, ended = corpus_items[group], [line for line in outcomes[group] if "status" in line]
    expected = [(os.fspath(path), feature) for path in items for feature in ("colour", "loudness")]
    assert [(outcome["location"], outcome["feature"]) for outcome in ended] == expected
    assert [outcome["status"] for outcome in ended[-2:]] == ["done", "failed"]
    for outcome in ended:
        item = items[Path(outcome["location"])]
        check = check_features if outcome["status"] == "done" else check_reason
        check(outcome, item)
    written = {
        str(path)
        for path in (outputs / group).glob("*/**/*")
        if not path.is_dir() and not {".video_features", "configs"} & set(path.parts)
    }
    assert written == {file for outcome in ended for file in outcome["files"]}, "partial or temporary files are left"


@pytest.mark.processes
@pytest.mark.parametrize("group", GROUPS)
def test_a_dry_run_tells_reasons_in_a_line(corpus_items: dict[str, Items], outcomes: Outcomes, group: str) -> None:
    planned = [line for line in outcomes[group] if "planned" in line]
    assert [line["location"] for line in planned] == [os.fspath(path) for path in corpus_items[group]]
    for line in planned:
        for reason in line["planned"].values():
            check_line(reason, line["location"])


def test_an_image_whose_exif_is_damaged_is_told(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "0.webp", exif=b"Exif\0\0M6\0*\0\0\0\x08")
    with (
        open_source(tmp_path, fps=1) as source,
        pytest.raises(MediaError, match=r"0\.webp: not an image that Pillow can read \(not a TIFF file"),
    ):
        _ = next(frames_of(source)).rgb


def check_features(outcome: dict[str, Any], item: Item) -> None:
    """Check that the features match the item, are complete and finite, and are in the files."""
    where, rows, seconds = outcome["location"], np.array(outcome["rows"]), np.array(outcome["seconds"])
    assert len(rows) and np.isfinite(rows).all(), where
    assert (np.diff(seconds) >= 0).all() and (np.array(outcome["end_seconds"]) >= seconds).all(), where
    files = {path.name.removeprefix(f"{path_stem(where)}_"): path for path in map(Path, outcome["files"])}
    feature = outcome["feature"]
    record = json.loads(files[f"{feature}.json"].read_text(encoding="utf-8"))
    assert set(files) == {f"{key}.npy" for key in record["arrays"]} | {f"{feature}.json"}, where
    assert np.array_equal(np.load(files[f"{feature}.npy"]), rows) and record["shapes"] == {feature: list(rows.shape)}
    assert np.allclose(np.load(files["timestamps_ms.npy"]), seconds * 1000), where
    if feature == "loudness":
        assert item.no_sound is None or item.sound_rows is not None, f"{where}: unexpected sound"
        assert item.sound_rows in (None, len(rows)), f"{where}: {len(rows)}"
        return
    assert item.reason is None, f"{where}: features instead of {item.reason!r}"
    assert item.frames in (None, len(rows)), f"{where}: {len(rows)}"
    if item.pictures is not None:
        assert np.round((rows[:, :3].mean(axis=1) - 16) / 6).tolist() == item.pictures, where
    if item.size is not None:
        assert (rows[0, 3:].tolist(), rows[-1, 3:].tolist()) == tuple(map(list, item.size)), where
    if item.seconds is not None:
        assert seconds.tolist() == pytest.approx(item.seconds, abs=2e-3), where


def check_reason(outcome: dict[str, Any], item: Item) -> None:
    """Check that the reason matches the item, if the item expects a reason."""
    check_line(outcome["reason"], outcome["location"])
    if outcome["feature"] == "loudness":
        assert item.sound_rows is None, outcome["reason"]
        pattern = item.no_sound
    else:
        assert item.pictures is None and item.frames is None, outcome["reason"]
        pattern = item.reason
    assert pattern is None or re.search(pattern, outcome["reason"]), outcome["reason"]


def check_line(reason: str, location: str) -> None:
    """Check that the reason is one printable line that starts with the file and says what is wrong."""
    assert reason.startswith(f"{printable(location)}: "), reason
    rest = reason.removeprefix(f"{printable(location)}: ")
    assert rest and len(reason.splitlines()) == 1 and not re.search(r"[\x00-\x1f\ud800-\udfff]", reason), reason
    assert not rest.startswith(str(Path(printable(location)).parent)), f"the file is named twice: {reason}"
    assert not re.search(r"\b[A-Z]\w*(Error|Exception)\b", rest), reason


def path_stem(location: str) -> str:
    return Path(location).stem
