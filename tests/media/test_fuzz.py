"""200 damaged files through `extract` in one process. `tests/fuzz.py` says what is checked, and tries any number."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

import video_features
from conftest import grey_levels, write_video
from mutations import Packets, boxes, mutated, packets_of, write_sources
from video_features import extract

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
    def found(name: str, pts: Callable[[int], int]) -> Packets:
        return packets_of(write_video(tmp_path / name, grey_levels(20), pts=pts, codec="mpeg4"))

    assert found("steady.mp4", lambda k: k) == Packets(20, 25.0, pytest.approx(0.8), 0)
    gap = found("gap.mp4", lambda k: k if k < 10 else k + 25 * 60)
    assert (gap.count, gap.seconds, gap.gaps) == (20, pytest.approx(0.8), 1)
    assert gap.most_rows(None) == 20 and gap.most_rows(25) == 22  # a row more where each of two stretches begins
    slow = found("slow.mkv", lambda k: 75 * k if k < 19 else 75 * 18 + 25 * 29)  # 29 s after steps of 3 s are no gap
    assert (slow.gaps, slow.most_rows(1)) == (0, pytest.approx(18 * 3 + 29 + 3, abs=2))
    assert packets_of(Path(av.__file__)) == Packets()


@pytest.mark.parametrize("picture", [1, 7, 18])
@pytest.mark.parametrize("codec", ["mpeg4", "libvpx-vp9", "ffv1"])
def test_a_picture_that_is_far_too_late_is_repeated_and_the_others_are_joined_on(
    tmp_path: Path, picture: int, codec: str, installed_families: None
) -> None:
    video = write_video(tmp_path / "a.mkv", grey_levels(20), codec=codec)
    data, cluster = bytearray(video.read_bytes()), boxes(video.read_bytes(), ".mkv")
    blocks = [box for box in cluster if box.name == "a3"]
    at = blocks[picture].body + 1  # after the number of the track: the time in milliseconds
    assert int.from_bytes(data[at : at + 2], "big") == 40 * picture
    data[at : at + 2] = (2000).to_bytes(2, "big")
    video.write_bytes(data)
    # From 0 s to 2 s, where FFmpeg's filter ends, then this picture, and the others joined on.
    pictures = [*range(picture), *[picture - 1] * (50 - picture), *range(picture, 20)]
    packets = packets_of(video)
    assert packets.seconds == pytest.approx(len(pictures) / 25)
    (outcome,) = extract(str(video), "colour", device="cpu", extraction_fps=25)
    assert outcome.features is not None, outcome.reason
    assert [round((row[:3].mean() - 16) / 6) for row in outcome.features.values["colour"]] == pictures
    assert len(pictures) <= packets.most_rows(25) <= len(pictures) + 1
    if shutil.which("ffmpeg") is not None:
        command = ["ffmpeg", "-v", "error", "-i", video, "-vf", "fps=25", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
        output = subprocess.run(command, capture_output=True, check=True).stdout
        means = np.frombuffer(output, np.uint8).reshape(-1, 48 * 64 * 3).mean(axis=1)
        assert [round((mean - 16) / 6) for mean in means] == pictures[:50]
