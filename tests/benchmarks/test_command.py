"""The benchmark of whole commands measures all processes of a command, and compares only commands that agree."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import command
import command_report
import processes
import speed_report
from command_report import COLUMNS, Result, Results, Round, section
from processes import Run
from speed_report import heading

RESNET18_ONE = next(job for job in command.JOBS if job.name == "resnet18_one")

# 100 MB that parent and child share, 100 MB of the child alone; then the first output.
TWO_PROCESSES = """
import os, pathlib, sys, time
shared = b"x" * (100 << 20)
child = os.fork()
if child:
    os.waitpid(child, 0)
else:
    own = b"x" * (100 << 20)
    time.sleep(0.5)
    pathlib.Path(sys.argv[1]).touch()
"""


def round_of(script: float, warm: float, cold: float | None = None) -> Round:
    return Round(Run(script, script / 2), cold and Run(cold, cold / 2), Run(warm, warm / 2))


def result(*rounds: Round) -> Result:
    return Result("resnet18", 1.6, 1e-6, Round(Run(9, 9, 900), Run(9, 9, 800), Run(9, 9, 700)), list(rounds))


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_is_that_of_all_processes_and_shared_pages_count_once(tmp_path: Path) -> None:
    output = tmp_path / "rows.npy"
    code = [sys.executable, "-c", TWO_PROCESSES, str(output)]
    found = processes.run(code, os.environ, output.exists, samples_memory=True)
    assert 200 / 1.024**2 < found.peak < 290  # the sum of resident sizes is over 300
    assert 0.5 < found.first <= found.seconds


@pytest.mark.processes
@pytest.mark.parametrize(
    ("code", "message"),
    [("exit('no such video')", r"ended with exit status 1:\nno such video"), ("", "ended with no output")],
)
def test_a_command_without_output_stops_the_benchmark(code: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        processes.run([sys.executable, "-c", code], os.environ, lambda: False)


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="processes are listed in /proc")
def test_a_command_that_leaves_a_process_stops_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LONGEST_WAIT_SECONDS", 0.1)
    code = "import os, time; os.fork() or time.sleep(600)"
    with pytest.raises(SystemExit, match=r"left the processes \d+$"):
        processes.run([sys.executable, "-c", code], os.environ, lambda: True)


def test_ratios_are_of_pairs_and_cold_rounds_may_be_fewer() -> None:
    found = result(round_of(10, 5, cold=20), round_of(30, 10), round_of(8, 8))
    assert found.row() == (
        "| resnet18 | 10.00 | 20.00 | 8.00 | ×2.00 (1.00–3.00) | ×1.6 | 5.00, 10.00, 4.00 | 900, 800, 700 |"
    )
    assert found.row().count("|") == heading(COLUMNS).splitlines()[0].count("|")
    assert "| 10.00 | – | 5.00 |" in result(round_of(10, 5)).row()


def test_the_section_is_written_between_its_markers_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(tmp_path / "command.json")
    results.jobs["resnet18_long"] = result(round_of(10, 5, cold=20))
    results.write()
    document = tmp_path / "speed.md"
    document.write_text("# Speed\n\nBefore\n", encoding="utf-8")
    speed_report.write_section("to be replaced", document)
    document.write_text(document.read_text(encoding="utf-8") + "\n## More\n", encoding="utf-8")
    text = section(Results(results.path), ["resnet18_long", "s3d_long"])
    assert "×2.00 (2.00–2.00)" in text and "Not measured: s3d_long." in text
    speed_report.write_section(text, document)
    speed_report.write_document("# Speed\n\nAfter\n", document)
    start, end = speed_report.MARKERS
    expected = f"# Speed\n\nAfter\n\n{start}\n{text.strip()}\n{end}\n\n## More\n"
    assert document.read_text(encoding="utf-8") == expected
    monkeypatch.setattr("speed_report.machine", lambda: "another one")
    assert not command_report.Results(results.path).jobs


def test_every_family_has_a_short_and_a_long_job() -> None:
    names = {job.name for job in command.JOBS}
    for case in ("resnet18", "lite0", "clip", "r21d", "s3d", "i3d_rgb", "vggish", "raft", "pwc"):
        assert {f"{case}_short", f"{case}_long"} <= names
    with pytest.raises(SystemExit, match="unknown job resnet19; known jobs: resnet18_one"):
        command.chosen("resnet18_one,resnet19")


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_job_runs_and_other_rows_stop_it(tmp_path: Path) -> None:
    found = command.measure(RESNET18_ONE, tmp_path, pairs=0, cold_pairs=0)
    assert found.difference < 1e-4
    assert found.sampled.cold is not None and list((tmp_path / "cache").rglob("*.*"))
    assert min(run.peak for run in (found.sampled.script, found.sampled.cold, found.sampled.warm)) > 100
    (rows,) = RESNET18_ONE.outputs(tmp_path / "script", of_script=True)
    np.save(rows, np.load(rows) * 1.1)
    with pytest.raises(SystemExit, match="differ"):
        command.compare(RESNET18_ONE, tmp_path)
    with pytest.raises(SystemExit, match="the command gives 1 rows instead of 2"):
        command.compare(replace(RESNET18_ONE, rows=2), tmp_path)


@pytest.mark.processes
@pytest.mark.slow
def test_the_script_runs_where_this_package_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "video_features.py").write_text("raise ImportError('not for the script')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    RESNET18_ONE.prepare(tmp_path)
    command.run_script(RESNET18_ONE, tmp_path)
    (rows,) = RESNET18_ONE.outputs(tmp_path / "script", of_script=True)
    assert np.load(rows).shape == (1, 512)
