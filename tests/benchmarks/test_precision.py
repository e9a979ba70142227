"""The benchmark of precisions measures the error of bf16 as its table claims. No test checks a duration."""

from __future__ import annotations

import pkgutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from video_features import models
from video_features.runtimes import openvino

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import precision
import precision_report
import speed_report
from precision_report import COLUMNS, MARKERS, Errors, Pixels, Result, Results, section
from speed_report import heading

OPENVINO = {"fp32": ["openvino 1 fp32 on cpu"], "bf16": ["openvino 1 bf16 on cpu"]}


def result(*seconds: tuple[float, float], runtimes: dict[str, list[str]] = OPENVINO) -> Result:
    return Result("resnet18", 100, list(seconds), Errors(0.0042, 0.99991, 0.015, None), runtimes)


def test_errors_of_rows() -> None:
    exact = np.array([[3.0, 4.0], [0.0, 10.0], [-3.0, 4.0]], np.float32)  # their mean: (0, 6)
    found = exact + np.array([[0, 0], [1, 0], [0, 0]], np.float32)
    errors = precision.errors(found, exact, is_flow=False)
    assert errors.largest == pytest.approx(1 / 10)
    assert errors.cosine == pytest.approx(10 / 101**0.5)
    assert errors.of_spread == pytest.approx((1 / 3) / ((13**0.5 + 4 + 13**0.5) / 3))
    assert errors.pixels is None
    assert precision.errors(exact[:1], exact[:1], is_flow=False).of_spread is None
    with pytest.raises(SystemExit, match=r"bf16 gives an array \(2, 2\), and fp32 \(3, 2\)"):
        precision.errors(found[:2], exact, is_flow=False)


def test_errors_of_flow_are_in_pixels() -> None:
    exact = np.full((1, 2, 2, 2), 10, np.float32)
    found = exact.copy()
    found[0, :, 0, 1] += (3, 4)
    errors = precision.errors(found, exact, is_flow=True)
    assert errors.pixels is not None and errors.of_spread is None and errors.largest == pytest.approx(4 / 10)
    assert asdict(errors.pixels) == pytest.approx({"mean": 5 / 4, "largest": 5, "length": 200**0.5})
    assert replace(result((10, 5)), errors=errors).row().endswith("| 1.2 of 14 pixels, at most 5 |")


def test_a_row_has_what_the_heading_says() -> None:
    row = result((10, 5), (20, 5), (6, 6)).row()
    assert row == "| resnet18 | 10 | 20 | ×2.00 | 4.2e-03 | 0.99991 | 1.5% |"
    assert row.count("|") == heading(COLUMNS).splitlines()[0].count("|")
    fallen_back = result((10, 5), runtimes={**OPENVINO, "bf16": ["torch 2 bf16 on cpu"]})
    assert fallen_back.row().startswith("| resnet18 (torch 2 bf16 on cpu) |")


def test_results_are_kept_and_written_between_the_markers(tmp_path: Path) -> None:
    results = Results(tmp_path / "precision.json")
    results.cases["resnet18"] = result((10, 5))
    flow = Errors(0.4, 0.9, None, Pixels(1.25, 5.0, 14.1))
    results.cases["raft"] = replace(result((10, 5)), errors=flow)
    results.write()
    assert Results(results.path).cases == results.cases
    text = section(Results(results.path), ["resnet18", "s3d"])
    assert result((10, 5)).row() in text and "Not measured: s3d." in text
    document = tmp_path / "runtimes.md"
    document.write_text(f"Before\n\n{MARKERS[0]}\nold\n{MARKERS[1]}\n\nAfter\n", encoding="utf-8")
    speed_report.write_section(text, document, MARKERS)
    expected = f"Before\n\n{MARKERS[0]}\n{text.strip()}\n{MARKERS[1]}\n\nAfter\n"
    assert document.read_text(encoding="utf-8") == expected
    assert MARKERS[0] in precision_report.DOCUMENT.read_text(encoding="utf-8")


def test_every_family_has_a_case() -> None:
    families = {module.name for module in pkgutil.iter_modules(models.__path__) if not module.name.startswith("_")}
    cases = precision.chosen(None)
    assert {case.feature for case in cases} == families and {case.name for case in cases} == set(precision.SECONDS)
    with pytest.raises(SystemExit, match="unknown case resnet19; known cases: lite0, resnet18"):
        precision.chosen("resnet18,resnet19")


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_a_cpu_without_bf16_is_told(runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "capabilities", lambda: ["FP32"])
    (case,) = precision.chosen("lite0")
    with pytest.raises(SystemExit, match="lite0: precision=bf16 needs a CPU with bf16 instructions"):
        precision.loaded(case, tmp_path, "bf16")


@pytest.mark.slow
@pytest.mark.skipif("BF16" not in openvino.capabilities(), reason="this CPU has no bf16 instructions")
@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_a_case_is_measured(runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(precision.SECONDS, "resnet18", 0.16)
    (case,) = precision.chosen("resnet18")
    found = precision.measure(case, tmp_path, rounds=1)
    assert found.rows == 4 and len(found.seconds) == 1
    assert [names[0].split()[2] for names in found.runtimes.values()] == ["fp32", "bf16"]
    assert 1e-4 < found.errors.largest < 2e-2 and 0.999 < found.errors.cosine < 1
