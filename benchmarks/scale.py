"""Estimates the limits of one run on a cluster: the rate of its first process, and the cost of a million videos.

    python benchmarks/scale.py [--videos 20000] [--write]

Measures on this machine:
- outcomes per second that the first process of a run with engine=ray handles, from workers that answer at once,
- the size of an outcome's line and of a task,
- the time per video of a rerun over finished outputs in an S3 store, which is a server in this process.

From these figures and benchmarks/speed.json it computes how many workers one run can feed, and the machine hours per
million videos of ten seconds. `--write` writes docs/scale.md. Takes about two minutes. Linux and macOS; needs the extra
`dev`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from bookkeeping import install, one_frame
from ray import cloudpickle
from speed_report import RESULTS, Result, machine

from video_features import extract
from video_features.engines.ray import engine as ray_engine
from video_features.engines.ray.worker import BundleDone, WorkerReady
from video_features.features import Outcome
from video_features.settings import RunSettings
from video_features.tasks.videos import Task, tasks, videos_of

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from stores import served

DOCUMENT = Path(__file__).parents[1] / "docs" / "scale.md"
VIDEO_SECONDS, MILLION, WORKERS = 10, 1_000_000, 1000
LARGEST = ray_engine.LARGEST_BUNDLE


def drive_workers(videos: list[Path], out: Path, sample: Outcome, bundle: int) -> tuple[float, float]:
    """Run workers that do nothing, and return outcomes per second and this process's CPU seconds per outcome."""

    class AnswersAtOnce:
        def __init__(self, *args: Any) -> None:
            pass

        def ready(self) -> WorkerReady:
            return WorkerReady(ray.get_runtime_context().get_node_id(), [])

        def extract(self, tasks: list[Task]) -> BundleDone:
            return BundleDone([[sample] for _ in tasks], {"decoding": 0.1, "network": 0.2, "writing": 0.1}, 1e-3, [])

        def stop(self) -> None:
            pass

    ray_engine.Worker, ray_engine.LARGEST_BUNDLE = AnswersAtOnce, bundle  # type: ignore[assignment,misc]
    outcomes = extract(videos, "brightness", output_path=out, engine="ray", cpus_per_worker=1, device="cpu")
    next(outcomes)  # wait until workers have started
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    count = sum(1 for _ in outcomes)
    return count / (time.perf_counter() - wall_start), (time.process_time() - cpu_start) / count


def rerun_in_store(videos: list[Path]) -> float:
    """Return the seconds per video of a run over finished outputs, including the listing."""
    with served() as bucket:
        for expected in ("done", "skipped"):
            started = time.perf_counter()
            outcomes = extract(videos, "brightness", output_path=f"{bucket}/out", device="cpu")
            statuses = {outcome.status for outcome in outcomes}
            assert statuses == {expected}, statuses
    return (time.perf_counter() - started) / len(videos)


def measure(folder: Path, count: int) -> dict[str, float]:
    """Return the measured figures by name."""
    install(folder / "site")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    content = one_frame(folder / "frame.avi")
    videos = [folder / "videos" / f"{k:07}.avi" for k in range(count)]
    videos[0].parent.mkdir()
    for video in videos:
        video.write_bytes(content)
    out = folder / "out"
    (done,) = extract(videos[0], "brightness", output_path=out, engine="ray", device="cpu", address="local")
    bundle = list(tasks(videos_of(videos[:LARGEST]), RunSettings(engine="ray", output_path=out)))
    shutil.rmtree(out)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    found: dict[str, float] = {}
    found["bundled"], found["bundled_seconds"] = drive_workers(videos, out, done, LARGEST)
    found["line_bytes"] = (out / "outcomes.jsonl").stat().st_size / count
    shutil.rmtree(out)
    found["single"], found["single_seconds"] = drive_workers(videos, out, done, 1)
    found["task_bytes"] = len(cloudpickle.dumps(bundle)) / LARGEST
    found["task_alone_bytes"] = len(cloudpickle.dumps(bundle[:1]))
    found["outcome_bytes"] = len(cloudpickle.dumps([[done]]))
    ray.shutdown()
    found["rerun_seconds"] = rerun_in_store(videos[:500])
    return found


def most_videos_per_second(found: dict[str, float], seconds_per_video: float) -> float:
    """Return the videos per second that the first process can handle.

    A video costs the first process its time in a large bundle, plus its share of the overhead of its bundle.
    """
    in_bundle, alone = 1 / found["bundled"], 1 / found["single"]
    size = max(1, min(LARGEST, int(ray_engine.BUNDLE_SECONDS / seconds_per_video)))
    return 1 / (in_bundle + (alone - in_bundle) / size)


def document(found: dict[str, float], count: int) -> str:
    """Return the text of docs/scale.md."""
    speeds = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = []
    for fields in speeds["cases"].values():
        result = Result.from_json(fields)
        seconds = VIDEO_SECONDS * result.median("ours") / result.seconds  # per video
        demand, limit = WORKERS / seconds, most_videos_per_second(found, seconds)
        rows.append(
            f"| {result.what} | {seconds:.2f} | {seconds * MILLION / 3600:,.0f} | {demand:.0f} | "
            f"{limit:,.0f} | {demand / limit:.0%} | {limit * seconds:,.0f} |"
        )
    table = "\n".join(rows)
    return f"""# Limits of one run

`python benchmarks/scale.py --write`, {datetime.date.today():%d %B %Y}: {machine()}, Ray {ray.__version__}. {count:,} \
videos of one frame; two workers that answer at once, all on this machine; moto's S3 server, in a thread of the same \
process.

| one run with `engine=ray` | |
|---|---|
| outcomes per second, short videos (bundles of up to 64) | {found["bundled"]:,.0f} |
| CPU time of the first process per outcome | {found["bundled_seconds"] * 1e3:.2f} ms |
| outcomes per second, one video per bundle | {found["single"]:,.0f} |
| CPU time of the first process per outcome | {found["single_seconds"] * 1e3:.2f} ms |
| size of a line in `outcomes.jsonl` | {found["line_bytes"]:.0f} bytes |
| size of a task sent to a worker, alone and in a bundle | {found["task_alone_bytes"]:.0f} and \
{found["task_bytes"]:.0f} bytes |
| size of an outcome sent back | {found["outcome_bytes"]:.0f} bytes |
| rerun over outputs in the S3 store, per video, with the listing | {found["rerun_seconds"] * 1e3:.1f} ms |

## A thousand workers

One process reads the list, checks for finished outputs, sends bundles to workers and records outcomes. A worker that \
takes *s* seconds per video asks for 1/*s* videos per second, and a thousand workers ask for 1000/*s*. If the first \
process cannot keep up, workers wait. The limit of the first process lies between the two rates above, because a \
bundle contains as many videos as take {ray_engine.BUNDLE_SECONDS:g} seconds, but at most {LARGEST}. The table is for \
videos of {VIDEO_SECONDS} seconds, and for workers as fast as the machine of [speed.md](speed.md) \
({speeds["machine"].partition(";")[0]}, no GPU):

| feature | s/video | machine hours per million videos | demand of 1000 workers, videos/s | \
limit of one run, videos/s | load | most workers per run |
|---|---|---|---|---|---|---|
{table}

The machine hours are 1,000,000 × *s* / 3600. Multiply them by the hourly price of such a machine. For GPUs, measure \
*s* on one of your machines (`video-features extract FEATURE some-videos/ --pattern '*.mp4'` prints videos per second \
at the end) and repeat the calculation. If a thousand workers ask for more than the limit of one run, start several \
runs over one output path, each with its own part of the list (`--shard 1/4` …).

- **The first process** saturates first. Its memory does not grow with the list. With outputs in a store, its memory \
grows with the number of existing outputs, whose names are listed once. Requests to a store are made one after \
another: one per video for a list of URLs, and one per record in a rerun over existing outputs. At 30 ms per request, \
this limits the run to 33 videos per second. A pattern of URLs is listed instead, and `--shard` divides the rest.
- **The outcome log** is written once per second, all new lines together. {found["single"]:,.0f} lines per second are \
{found["single"] * found["line_bytes"] / 1e6:.1f} MB per second, and a million videos are \
{MILLION * found["line_bytes"] / 1e6:,.0f} MB. In a store, the log has one object per thousand lines or half minute.
- **Ray's object store** is hardly used, because values below 100 kB are sent in the calls themselves. The tasks of a \
bundle of {LARGEST} take {LARGEST * found["task_bytes"] / 1e3:.0f} kB. Its outcomes take \
{LARGEST * found["outcome_bytes"] / 1e3:.0f} kB, and are freed after they are read. Frames and features leave the \
worker only as output files.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--write", action="store_true", help="write docs/scale.md")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scale"))
    try:
        text = document(measure(folder, options.videos), options.videos)
    finally:
        shutil.rmtree(folder)
    print(text)
    if options.write:
        DOCUMENT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
