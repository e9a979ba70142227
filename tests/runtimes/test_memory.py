"""The count of the memory that waits between the steps, and its default limit."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from video_features.runtimes import memory as module
from video_features.runtimes.memory import Memory, default_limit, limit_memory, machine_memory, memory
from video_features.settings import RunSettings
from video_features.settings.parse import Bytes

PATIENCE_SECONDS = 30


def group(root: Path, entry: str, limits: dict[str, str]) -> Path:
    """Write the control group of a process below `root`. limits: {file: content}"""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    with (root / "proc/self/cgroup").open("a") as file:
        file.write(f"{entry}\n")
    for name, content in limits.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
@pytest.mark.parametrize(
    ("entry", "limits", "expected"),
    [
        ("0::/", {"memory.max": "1000000"}, 1_000_000),  # as a container sees its own group
        ("0::/a/b", {"a/memory.max": "2000000", "a/b/memory.max": "max"}, 2_000_000),
        ("0::/a/b", {"a/memory.max": "2000000", "a/b/memory.max": "1500000"}, 1_500_000),
        ("5:cpu,memory:/jobs/7", {"memory/jobs/7/memory.limit_in_bytes": "3000000"}, 3_000_000),
        ("5:memory:/docker/0123", {"memory/memory.limit_in_bytes": "4000000"}, 4_000_000),
        ("5:cpu:/jobs/7", {"memory/jobs/7/memory.limit_in_bytes": "3000000"}, None),
        ("0::/", {"memory.max": "max"}, None),
        ("0::/", {"memory.max": "9" * 19}, None),
    ],
)
def test_the_memory_of_a_control_group_counts(
    tmp_path: Path, entry: str, limits: dict[str, str], expected: int | None
) -> None:
    machine = machine_memory(tmp_path)  # without any group
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert machine == pytest.approx(int(total.split()[1]) * 1024, rel=0.05)
    assert machine_memory(group(tmp_path, entry, limits)) == (expected or machine)


def test_processes_share_the_default_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "machine_memory", lambda: 16 * 10**9)
    assert (default_limit(1), default_limit(4)) == (4 * 10**9, 10**9)
    limits = []
    for run in (
        RunSettings(),
        RunSettings(devices=("cpu,cpu",)),
        RunSettings(devices=("cpu,cpu",), memory_limit=Bytes(7_000_000)),
    ):
        limit_memory(run)
        limits.append(memory().limit)
    assert limits == [4 * 10**9, 2 * 10**9, 7_000_000]
    monkeypatch.setattr(module, "cores_here", lambda: 16)
    limit_memory(RunSettings(engine="ray"))  # four workers of four CPUs
    assert memory().limit == 10**9


def test_a_frame_waits_until_it_fits() -> None:
    counted = Memory(100)
    first, began, held = counted.hold_frame(60, lambda: None), threading.Event(), threading.Event()

    def hold_another() -> None:
        counted.hold_frame(60, began.set)
        held.set()

    threading.Thread(target=hold_another, daemon=True).start()
    assert began.wait(PATIENCE_SECONDS), "what is collected begins before the wait"
    assert not held.wait(0.3)
    first.release()
    first.release()  # has no effect
    assert held.wait(PATIENCE_SECONDS)


def test_a_frame_does_not_wait_for_what_only_more_frames_can_release() -> None:
    counted = Memory(100)
    batch = counted.hold(150)
    assert counted.is_over
    frame = counted.hold_frame(60, lambda: pytest.fail("no frame is being preprocessed"))
    del batch
    assert not counted.is_over, "memory that nothing refers to is not counted"
    frame.release()
    counted.hold_frame(100, lambda: pytest.fail("nothing is held"))
