"""The benchmarks compute what their tables claim. No test checks a duration."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from video_features import Extractor, load, models

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import limits
import speed
from plain import plain_loop
from speed_cases import CASES
from speed_report import Results, ThreeResult, document


def round_of(plain: float, ours: float) -> speed.Round:
    return speed.Round(plain=plain, ours=ours, network=3, decode=1, preprocess=2)


def result(*rounds: speed.Round) -> speed.Result:
    return speed.Result("resnet18", 1.6, 250, 10, 1e-6, list(rounds), 900, cores=2)


@pytest.fixture(scope="module")
def resnet18(standin_file: Callable[[str, str], Path]) -> Extractor:
    weights = standin_file("resnet", "resnet18")
    return load("resnet", model_name="resnet18", weights=weights, batch_size=4, device="cpu")


@pytest.fixture(scope="module")
def r21d(standin_file: Callable[[str, str], Path]) -> Extractor:
    weights = standin_file("r21d", "r2plus1d_18_16_kinetics")
    return load("r21d", weights=weights, stack_size=4, step_size=3, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(("feature", "rows"), [("resnet18", 9), ("r21d", 2)])
def test_a_plain_loop_agrees(feature: str, rows: int, carphone: Path, request: pytest.FixtureRequest) -> None:
    extractor = request.getfixturevalue(feature)
    ours = extractor.extract(carphone, end_seconds=0.3).values[extractor.streams[0].key]
    plain = plain_loop(extractor)(carphone, 0.3)
    assert len(plain) == rows
    speed.difference(ours, plain, allowed=1e-4)  # exits if the rows differ


def test_other_rows_stop_the_benchmark() -> None:
    rows = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert speed.difference(rows, rows + 0.002, allowed=1e-3) == pytest.approx(0.002 / 4.002)
    with pytest.raises(SystemExit, match=r"differ from the extractor's by 5\.0e-01"):
        speed.difference(rows, rows * 2, allowed=0.4)
    with pytest.raises(SystemExit, match="differ"):
        speed.difference(rows, rows * np.nan, allowed=1e-3)
    with pytest.raises(SystemExit, match=r"gives an array \(1, 2\), and the extractor \(2, 2\)"):
        speed.difference(rows, rows[:1], allowed=1e-3)


def test_ratios_are_of_pairs() -> None:
    # Pairs give ×2, ×3 and ×1. The ratio of the medians would be 10 / 8.
    found = result(round_of(10, 5), round_of(30, 10), round_of(8, 8))
    assert "| ×2.00 (1.00–3.00) | ×1.6 |" in found.row()


def test_efficiency() -> None:
    assert round_of(10, 5).efficiency(cores=2) == (3 + 3 / 2) / 5
    assert round_of(10, 5).efficiency(cores=1) == (3 + 3) / 5
    assert result(round_of(10, 5), round_of(10, 4.5), round_of(10, 9)).efficiency == 0.9


def test_a_row_has_what_the_heading_says() -> None:
    row = result(round_of(10, 5)).row()
    assert row == "| resnet18 | 50 | 2 | 3.00 | 1.00 | 2.00 | 5.00 | 0.90 | ×2.00 (2.00–2.00) | ×1.6 | 900 |"
    assert row.count("|") == speed.heading().splitlines()[0].count("|")


def test_results_are_kept_from_run_to_run_on_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "speed.json"
    first = Results(path)
    first.cases["resnet18"] = result(round_of(10, 5))
    first.write()
    second = Results(path)
    second.cases["s3d"] = result(round_of(20, 5))
    second.three = ThreeResult([(2.0, 5.0)], 132, 396, 900)
    second.write()
    text = document(Results(path), ["resnet18", "s3d", "raft"])
    assert "×2.00 (2.00–2.00)" in text and "×4.00 (4.00–4.00)" in text and "| 2.00 | 5.00 | ×2.50 | 132 | 396 |" in text
    assert "Not measured: raft." in text
    monkeypatch.setattr("speed_report.machine", lambda: "another one")
    assert "Not measured: resnet18, s3d, raft." in document(Results(path), ["resnet18", "s3d", "raft"])


def test_every_family_has_a_case() -> None:
    families = {module.name for module in pkgutil.iter_modules(models.__path__) if not module.name.startswith("_")}
    assert {case.feature for case in CASES} == families
    with pytest.raises(SystemExit, match="unknown case resnet19; known cases: lite0, resnet18"):
        speed.chosen("resnet18,resnet19")


@pytest.mark.slow
def test_limits_see_the_features_frames(resnet18: Extractor, carphone: Path) -> None:
    with limits.recorded_batches(resnet18) as batches, limits.counted_frames() as decoded:
        resnet18.extract(carphone, end_seconds=0.3)
    assert sum(len(batch) for _, (batch, _) in batches) == 9
    assert decoded[0] >= 9
    assert not isinstance(resnet18.streams[0].run, limits._Recorded)
    seconds, reached = limits.decode_alone(resnet18, carphone, 0.3)
    assert seconds > 0 and reached == pytest.approx(9 / 29.97, abs=1e-3)
