"""Frame selection at a constant rate matches the `fps` filter of libavfilter, frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from conftest import grey_levels, write_video
from video_features.media import frames_of, open_source
from video_features.timeline.rates import ConstantRate, as_fraction

RATES = [1, 2, 5, 10, 12.5, 25, 30, 60]
# Times in 1/1000 s: close together, far apart, halfway between ticks of 10 and 25 fps, and with one long gap.
VARIABLE = [0, 40, 50, 60, 100, 150, 170, 250, 300, 333, 420, 1500, 1520, 1540, 1999, 2000, 2450, 2500, 2520, 3000]


@pytest.fixture(scope="session")
def variable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("variable") / "variable.mkv"
    write_video(path, grey_levels(len(VARIABLE)), fps=Fraction(1000), pts=VARIABLE.__getitem__)
    return path


@pytest.fixture(scope="session")
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transport stream: the first timestamp is not 0."""
    return write_video(tmp_path_factory.mktemp("late") / "late.ts", grey_levels(40))


def by_libavfilter(path: Path, fps: float) -> list[tuple[int, int]]:
    """Return (output tick, input frame) from the fps filter. As in the ffmpeg tool, the start of the container is 0."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        start = round(Fraction(container.start_time or 0, av.time_base) / stream.time_base)
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream)
        filtered, sink = graph.add("fps", f"fps={fps}"), graph.add("buffersink")
        source.link_to(filtered)
        filtered.link_to(sink)
        graph.configure()
        for k, frame in enumerate(frames):
            frame.opaque = k
            frame.pts -= start
            graph.push(frame)
        graph.push(None)
        selected = []
        while True:
            try:
                out = graph.pull()
            except (av.error.EOFError, av.error.BlockingIOError):
                return selected
            selected.append((out.pts, out.opaque))


def by_constant_rate(path: Path, fps: float) -> list[tuple[int, int]]:
    rate = ConstantRate(as_fraction(fps))
    with open_source(path) as source:
        return [
            (tick, k)
            for k, frame in enumerate(frames_of(source))
            for tick in rate.ticks(frame.seconds, frame.end_seconds)
        ]


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("name", ["bikes", "carphone", "variable", "late"])
def test_same_frames_as_ffmpeg(name: str, fps: float, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(name)
    expected = by_libavfilter(path, fps)
    assert expected
    assert by_constant_rate(path, fps) == expected
