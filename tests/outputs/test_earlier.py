"""Outputs of an earlier version are skipped, and the records of an earlier version are still readable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import earlier
from video_features import OutputError, extract, status
from video_features.features import Outcome

SETTINGS = {"device": "cpu", "source_fps": 25}


@pytest.fixture
def folder(tmp_path: Path, installed_families: None) -> Path:
    """A copy of the golden outputs `saved` and `pickled`."""
    return shutil.copytree(earlier.FOLDER, tmp_path / "earlier")


def contents(folder: Path) -> dict[Path, bytes]:
    """Return the bytes of every output file, without the run logs."""
    paths = (
        path
        for path in folder.glob("*/*/**/*")
        if path.is_file() and not {".video_features", "configs"} & {*path.parts}
    )
    return {path: path.read_bytes() for path in paths}


def test_they_are_skipped_and_stay_as_they_are(folder: Path, tmp_path: Path) -> None:
    before, outcomes = contents(folder), list[Outcome]()
    for paths, feature, settings in earlier.calls(tmp_path):
        root = folder / settings.pop("output_path", "saved")
        outcomes += extract(paths, feature, output_path=root, **settings, **SETTINGS)
    assert [(outcome.feature, outcome.status) for outcome in outcomes] == [
        ("trouble", "skipped"),
        ("trouble", "failed"),  # missing.mp4
        ("trouble", "skipped"),  # pickled
        ("resnet", "skipped"),
        ("raft", "skipped"),
    ]
    assert contents(folder) == before and len(before) == 22

    trouble, _, _, resnet, raft = outcomes
    assert trouble.features is not None and resnet.features is not None and raft.features is not None
    # The mean of red and green is 8 + 7.5, the mean of blue is 100 + 10 k. A frame lasts 40 ms.
    expected = [[15.5, 15.5, 100 + 10 * k] for k in range(3)]
    np.testing.assert_array_equal(trouble.features.values["trouble"], expected)
    np.testing.assert_allclose(trouble.features.start_seconds, [0, 0.04, 0.08])
    assert trouble.features.record["versions"]["video_features"] == "0.1.0"
    assert resnet.features.predictions is not None and len(resnet.features.predictions["resnet"][0].classes) == 5
    assert raft.features.values["raft"].dtype == np.float16 and raft.features.shapes == {"raft": (1, 2, 128, 128)}
    assert any(str(path).endswith("_preview.mp4") for path in raft.files)


def test_other_settings_are_refused(folder: Path, tmp_path: Path) -> None:
    paths, feature, settings = next(earlier.calls(tmp_path))
    root = folder / "saved"
    found, _ = extract(paths, feature, output_path=root, extraction_fps=5, **settings, **SETTINGS)
    assert found.status == "failed" and found.error == OutputError.__name__
    assert "extraction_fps was None and is 5.0" in found.reason


def test_its_runs_are_counted_and_what_failed_is_tried_again(folder: Path, tmp_path: Path) -> None:
    states = {state.feature: state for state in status(folder / "saved")}
    assert {feature: state.videos for feature, state in states.items()} == {"resnet": 0, "raft": 0, "trouble": 2}
    # The videos of the recorded run no longer exist.
    assert states["trouble"].failed.total() == 2 and states["trouble"].model == ""
    assert states["resnet"].model == "resnet18"
    _, feature, settings = next(earlier.calls(tmp_path))
    again = extract([], feature, output_path=folder / "saved", retry_failed=True, **settings, **SETTINGS)
    assert [(Path(outcome.location).name, outcome.status) for outcome in again] == [("missing.mp4", "failed")]


def test_a_run_in_a_format_that_is_not_installed_hides_no_other_run(folder: Path) -> None:
    record = next((folder / "saved" / ".video_features" / "runs").glob("*.json"))
    run = json.loads(record.read_text(encoding="utf-8"))
    assert len(status(folder / "saved")) == 3
    record.write_text(json.dumps({**run, "settings": {**run["settings"], "on_extraction": "save_zarr"}}))
    assert len(status(folder / "saved")) == 2
