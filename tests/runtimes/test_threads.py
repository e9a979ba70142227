"""How many cores are used: as many as PyTorch would use, found without importing PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import video_features
from video_features.runtimes import threads

VARIABLES = ("MKL_NUM_THREADS", "OMP_NUM_THREADS")
SAME = """
import sys
from video_features.runtimes import threads
found = threads.cores()
threads.thread_pools()
assert "torch" not in sys.modules
import torch
print(found, torch.get_num_threads())
"""


def counts(command: list[str], variables: dict[str, str]) -> list[int]:
    """Return the number of cores of a process, and PyTorch's."""
    path = str(Path(video_features.__file__).parents[1])
    unset = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment = {**unset, "PYTHONPATH": path, **variables}
    found = subprocess.run([*command, sys.executable, "-c", SAME], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return [int(number) for number in found.stdout.split()]


@pytest.mark.processes
@pytest.mark.slow
def test_as_many_as_pytorch() -> None:
    ours, theirs = counts([], {})
    assert ours == theirs


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_as_many_as_pytorch_on_one_core() -> None:
    assert counts(["taskset", "-c", str(min(os.sched_getaffinity(0)))], {}) == [1, 1]


@pytest.mark.processes
@pytest.mark.slow
def test_as_many_as_pytorch_with_the_variable_of_openmp() -> None:
    assert counts([], {"OMP_NUM_THREADS": "1"}) == [1, 1]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 8),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": " 3 "}, 3),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"OMP_NUM_THREADS": "100"}, 8),  # never more than there are
        ({"OMP_NUM_THREADS": "0"}, 8),
        ({"OMP_NUM_THREADS": "-2"}, 8),
        ({"OMP_NUM_THREADS": "all"}, 8),
        ({"OMP_NUM_THREADS": ""}, 8),
        ({"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "0"}, 3),
    ],
)
def test_the_variables_ask_for_fewer(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: int) -> None:
    monkeypatch.setattr(threads, "_physical_cores", lambda: 8)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert threads.default_cores() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="the file system of Linux")
@pytest.mark.parametrize(("allowed", "expected"), [({0, 1, 2, 3}, 2), ({0, 2}, 1), ({0, 1}, 2), ({3}, 1)])
def test_two_threads_of_a_core_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: set[int], expected: int
) -> None:
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed)
    assert threads._physical_cores(tmp_path) == expected
    assert threads._physical_cores(tmp_path / "nowhere") == len(allowed), "without the files every processor counts"


@pytest.fixture
def unknown_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the cores and the pools of this process within a test."""
    monkeypatch.setattr(threads, "_cores", None)
    monkeypatch.setattr(threads, "_pools", None)


@pytest.mark.usefixtures("unknown_cores")
def test_a_program_that_set_pytorchs_number_is_followed() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 3)
        assert threads.cores() == before + 3
    finally:
        torch.set_num_threads(before)
    assert threads.cores() == before + 3, "found on the first call"


@pytest.mark.usefixtures("unknown_cores")
def test_a_number_that_is_set_decides_for_the_pools_and_for_pytorch() -> None:
    before = torch.get_num_threads()
    try:
        threads.set_cores(3)
        assert threads.cores() == 3
        pools = threads.thread_pools()
        assert (pools.threads, pools.preparers) == (3, 3)
        assert torch.get_num_threads() == 3
        assert {pools.preparing.submit(torch.get_num_threads).result() for _ in range(9)} == {1}
    finally:
        torch.set_num_threads(before)
