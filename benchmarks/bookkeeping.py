"""Measures the cost of everything except decoding and networks: claims, outputs, outcomes and checks.

    python benchmarks/bookkeeping.py [--videos 10000] [--processes 0]

Every video has one frame, and the network only computes a mean, so that both cost almost nothing. Prints the
bookkeeping time per video (the time of a run minus the time to only read the same videos), and how many finished
outputs per second a rerun and `video-features status` check.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

FAMILY = '''"""Brightness: the mean of each colour, a vector a frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from video_features.extraction import Extractor, Stream
from video_features.settings import FrameSettings
from video_features.weights import Weights


@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    pass


def build(settings, *, predict):
    stream = Stream(
        key="brightness",
        model="brightness",
        weights=Weights(path=Path(__file__)),
        build_network=network,
        row_shape=(3,),
        preprocess=lambda rgb: rgb.mean(axis=(0, 1)).astype(np.float32),
    )
    return Extractor(feature="brightness", settings=settings, streams=[stream])


def network(path):
    from torch import nn

    from video_features.extraction import WithHead

    return WithHead(nn.Identity(), head=None)
'''


def install(site: Path) -> None:
    """Install a family with a trivial network into the folder `site`, as pip would, and add `site` to `sys.path`."""
    (site / "brightness-1.0.dist-info").mkdir(parents=True)
    (site / "brightness_family.py").write_text(FAMILY)
    (site / "brightness-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n"
    )
    (site / "brightness-1.0.dist-info" / "entry_points.txt").write_text(
        "[video_features.families]\nbrightness = brightness_family\n"
    )
    sys.path.insert(0, str(site))


def one_frame(path: Path) -> bytes:
    """Write a video with a single frame of 32×32 pixels to `path`, and return the content of the file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for packet in [
            *stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8))),
            *stream.encode(),
        ]:
            container.mux(packet)
    return path.read_bytes()


def timed(function: Callable[[], Any]) -> float:
    """Return the seconds that a call of `function` takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=0, help="number of reading processes; 0 reads in this process")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bookkeeping"))
    try:
        install(folder / "site")
        measure(folder, arguments.videos, arguments.processes)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, count: int, processes: int) -> None:
    from video_features import extract, load, status

    content = one_frame(folder / "frame.avi")
    videos = [folder / "videos" / f"{k:06}.avi" for k in range(count)]
    videos[0].parent.mkdir()
    for video in videos:
        video.write_bytes(content)

    settings: dict[str, Any] = {"device": "cpu"} if not processes else {"devices": ["cpu"] * processes}

    def run(expected: str) -> None:
        statuses = [outcome.status for outcome in extract(videos, "brightness", output_path=folder / "out", **settings)]
        assert statuses == [expected] * count, set(statuses)

    brightness = load("brightness", device="cpu")
    brightness.extract(videos[0])
    reading = timed(lambda: [brightness.extract(video) for video in videos])
    extracting = timed(lambda: run("done"))
    rerunning = timed(lambda: run("skipped"))
    checking_status = timed(lambda: status(folder / "out"))
    readers = f"{processes} processes" if processes else "this process"
    print(f"{count} videos of one frame, read in {readers}")
    print(f"reading alone           {reading / count * 1000:6.2f} ms per video")
    print(f"a run with outputs      {extracting / count * 1000:6.2f} ms per video")
    print(f"bookkeeping             {(extracting - reading) / count * 1000:6.2f} ms per video")
    print(f"a rerun checks          {count / rerunning:6.0f} finished videos per second")
    print(f"status checks           {count / checking_status:6.0f} finished videos per second")


if __name__ == "__main__":
    main()
