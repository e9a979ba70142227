"""200 damaged files through `extract` in one process. `tests/fuzz.py` says what is checked, and tries any number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

import video_features
from conftest import grey_levels, write_video
from mutations import Packets, boxes, mutated, packets_of, write_sources

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
FILES = 200
TIMEOUT_SECONDS = 400  # many times the usual duration


def fuzz(*words: object) -> subprocess.CompletedProcess[str]:
    sources = [TESTS, Path(video_features.__file__).parents[1]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "fuzz.py"), *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)


@pytest.mark.processes
def test_damaged_files_end_in_features_or_in_a_reason(tmp_path: Path) -> None:
    ended = fuzz("--files", FILES, "--keep", tmp_path)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr[-3000:]}"
    assert ended.stdout.startswith(f"{FILES} files, 0 failed a check; ") and "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("0*")), "only files that fail a check are kept"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_sources(tmp_path_factory.mktemp("sources"))


def test_a_seed_determines_the_file(sources: list[Path]) -> None:
    first, again = ([mutated(seed, sources) for seed in range(100)] for _ in range(2))
    assert first == again
    assert len({data for _, data, _ in first}) > 90
    assert sum(data == source.read_bytes() for source, data, _ in first) < 10


def test_the_parts_of_every_container_are_found(sources: list[Path]) -> None:
    named = {".mp4": "stts", ".mov": "stts", ".m4a": "stts", ".mkv": "a3", ".webm": "a3", ".avi": "avih"}
    named |= {".wav": "data", ".ts": "pid 256", ".ogg": "page", ".flv": "tag 9", ".gif": "image"}
    for source in sources:
        found = boxes(source.read_bytes(), source.suffix)
        if source.suffix != ".mp3":
            names = {box.name for box in found}
            assert named[source.suffix] in names or {"moof", "trun"} <= names, source
            assert max(box.end for box in found) >= source.stat().st_size - 1, source  # GIF ends with a byte
    (gif,) = (source for source in sources if source.suffix == ".gif")
    assert sum(box.name == "image" for box in boxes(gif.read_bytes(), ".gif")) == 20


def test_packets_bound_the_rows(tmp_path: Path) -> None:
    steady = write_video(tmp_path / "steady.mp4", grey_levels(20))
    assert packets_of(steady) == Packets(20, 25.0, pytest.approx(0.8), 0)
    late = write_video(tmp_path / "late.mp4", grey_levels(20), pts=lambda k: k if k < 10 else k + 25 * 60)
    found = packets_of(late)
    assert (found.count, found.pauses) == (20, 1) and found.seconds == pytest.approx(10 + 18 / 25, abs=0.6)
    assert found.most_rows(None) == 20 and found.most_rows(25) == pytest.approx(10 * 25 + 20, abs=20)
    assert packets_of(Path(av.__file__)) == Packets()
