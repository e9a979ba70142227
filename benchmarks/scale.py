"""How far one run goes on a cluster: what its first process bears, and what a million videos take.

    python benchmarks/scale.py [--videos 20000] [--write]

Measures, on this machine, how many outcomes a second the first process of a run with engine=ray takes from workers that
answer at once; how long a line of the outcomes and a task are; and what a rerun over finished outputs in an S3 store (a
server here) costs a video. From these, and from benchmarks/speed.json, follow how many workers one run feeds, and the
machine hours of a million videos of ten seconds. `--write` writes docs/scale.md. About two minutes. Linux and macOS;
needs the extra `dev`.
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
from video_features.engines.ray.worker import Report
from video_features.features import Outcome
from video_features.settings import RunSettings
from video_features.tasks.videos import Task, tasks, videos_of

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from stores import served

DOCUMENT = Path(__file__).parents[1] / "docs" / "scale.md"
VIDEO_SECONDS, MILLION, WORKERS = 10, 1_000_000, 1000
LARGEST = ray_engine.LARGEST_BUNDLE


def driven(videos: list[Path], out: Path, sample: Outcome, bundle: int) -> tuple[float, float]:
    """Outcomes a second of wall time, and processor seconds of this process for each; by workers that do nothing."""

    class AnswersAtOnce:
        def __init__(self, *given: Any) -> None:
            pass

        def ready(self) -> tuple[str, list[tuple[int, str]]]:
            return str(ray.get_runtime_context().get_node_id()), []

        def extract(self, tasks: list[Task]) -> Report:
            return Report([[sample] for _ in tasks], {"decoding": 0.1, "network": 0.2, "writing": 0.1}, 1e-3, [])

        def stop(self) -> None:
            pass

    ray_engine.Worker, ray_engine.LARGEST_BUNDLE = AnswersAtOnce, bundle  # type: ignore[assignment,misc]
    outcomes = extract(videos, "brightness", output_path=out, engine="ray", cpus_per_worker=1, device="cpu")
    next(outcomes)  # workers have started
    wall, processor = time.perf_counter(), time.process_time()
    count = sum(1 for _ in outcomes)
    return count / (time.perf_counter() - wall), (time.process_time() - processor) / count


def rerun_in_store(videos: list[Path]) -> float:
    """Seconds a video of a run over outputs that are all there, with its listing."""
    with served() as bucket:
        for expected in ("done", "skipped"):
            began = time.perf_counter()
            statuses = {one.status for one in extract(videos, "brightness", output_path=f"{bucket}/out", device="cpu")}
            assert statuses == {expected}, statuses
    return (time.perf_counter() - began) / len(videos)


def measure(folder: Path, count: int) -> dict[str, float]:
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
    found["bundled"], found["bundled_seconds"] = driven(videos, out, done, LARGEST)
    found["line_bytes"] = (out / "outcomes.jsonl").stat().st_size / count
    shutil.rmtree(out)
    found["single"], found["single_seconds"] = driven(videos, out, done, 1)
    found["task_bytes"] = len(cloudpickle.dumps(bundle)) / LARGEST
    found["task_alone_bytes"] = len(cloudpickle.dumps(bundle[:1]))
    found["outcome_bytes"] = len(cloudpickle.dumps([[done]]))
    ray.shutdown()
    found["rerun_seconds"] = rerun_in_store(videos[:500])
    return found


def borne_by_one_run(found: dict[str, float], each: float) -> float:
    """Videos a second that the first process bears, of so many seconds each: a video costs it what one in a large
    bundle does, and its share of what a bundle does."""
    in_bundle, alone = 1 / found["bundled"], 1 / found["single"]
    size = max(1, min(LARGEST, int(ray_engine.BUNDLE_SECONDS / each)))
    return 1 / (in_bundle + (alone - in_bundle) / size)


def document(found: dict[str, float], count: int) -> str:
    speeds = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = []
    for told in speeds["cases"].values():
        result = Result.told(told)
        each = VIDEO_SECONDS * result.median("ours") / result.seconds
        demand, borne = WORKERS / each, borne_by_one_run(found, each)
        rows.append(
            f"| {result.what} | {each:.2f} | {each * MILLION / 3600:,.0f} | {demand:.0f} | "
            f"{borne:,.0f} | {demand / borne:.0%} | {borne * each:,.0f} |"
        )
    table = "\n".join(rows)
    return f"""# How far one run goes

`python benchmarks/scale.py --write`, {datetime.date.today():%d %B %Y}: {machine()}, Ray {ray.__version__}. {count:,} \
videos of one frame, two workers that answer at once, all on this machine; the S3 server is \
moto's, in a thread of the same process.

| of one run with `engine=ray` | |
|---|---|
| outcomes a second, short videos (bundles of up to 64) | {found["bundled"]:,.0f} |
| processor time of the first process for each | {found["bundled_seconds"] * 1e3:.2f} ms |
| outcomes a second, one video a bundle | {found["single"]:,.0f} |
| processor time of the first process for each | {found["single_seconds"] * 1e3:.2f} ms |
| a line of `outcomes.jsonl` | {found["line_bytes"]:.0f} bytes |
| a task on its way to a worker, alone and in a bundle | {found["task_alone_bytes"]:.0f} and \
{found["task_bytes"]:.0f} bytes |
| an outcome on its way back | {found["outcome_bytes"]:.0f} bytes |
| a rerun over outputs in the S3 store, for each video, with its listing | {found["rerun_seconds"] * 1e3:.1f} ms |

## A thousand workers

One process reads the list, looks what is there, gives bundles out and records outcomes. A worker of *s* seconds a \
video asks it for 1/*s* videos a second, so a thousand of them for 1000/*s*; where that is more than it bears, workers \
wait. It bears between the two rates above: a bundle is of as many videos as take {ray_engine.BUNDLE_SECONDS:g} \
seconds, {LARGEST} at most. For videos of {VIDEO_SECONDS} seconds, with a worker as fast as \
the machine of [speed.md](speed.md) ({speeds["machine"].partition(";")[0]}, no GPU):

| feature | s a video | machine hours of a million | videos/s of 1000 workers | one run bears | that is | \
workers that one run bears |
|---|---|---|---|---|---|---|
{table}

The column of hours is 1,000,000 × *s* / 3600: multiply it by the price of such a machine's hour. With a GPU measure \
*s* on one of yours (`video-features extract FEATURE some-videos/ --pattern '*.mp4'` tells videos a second at its end) \
and take the same arithmetic. Where a thousand workers ask for more than one run bears, give each of several runs its \
part of the list (`--shard 1/4` …), over one output path.

- **The first process** saturates first. Its memory does not grow with the list; where \
outputs are in a store it grows with those that are there already, whose names are listed once. \
Where it asks a store for each video, of a list of URLs, or for each record, in a rerun over outputs there, it waits \
for one answer after another: of 30 ms each, 33 videos a second. A pattern of URLs is listed instead, and `--shard` \
divides the rest.
- **The outcome log** is written once a second, all lines of it together: at {found["single"]:,.0f} lines a second \
that are {found["single"] * found["line_bytes"] / 1e6:.1f} MB a second, and \
{MILLION * found["line_bytes"] / 1e6:,.0f} MB for a million videos. In a store it is an object for every thousand \
lines or half minute.
- **The object store** of Ray is hardly used: what is below 100 kB travels in the calls themselves. The tasks of a \
bundle of {LARGEST} have {LARGEST * found["task_bytes"] / 1e3:.0f} kB, and its outcomes \
{LARGEST * found["outcome_bytes"] / 1e3:.0f} kB, which are freed once they are read. Frames and features never leave \
the worker but for their files.
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
