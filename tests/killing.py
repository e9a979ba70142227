"""Kill and restart workers on one output folder at random moments, then check the outputs.

    python tests/killing.py --kills 100          # each command has its own reader process

The script prints a summary of the kills. The script fails if an output is incomplete, if an output differs from an
undisturbed run, if a video is done twice, or if a video is restarted although its worker was not killed. `make test`
runs the same check with fewer kills and lighter workers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from conftest import write_video
from families import command, install

FRAMES = 4
SECONDS_A_FRAME = 0.03
PATIENCE_SECONDS = 600  # for the last workers to finish
PAUSE_SECONDS = (0.01, 0.15)  # between kills


class Worker(Protocol):
    """A running worker."""

    def is_running(self) -> bool: ...

    def reader(self) -> int:
        """Return the id of the process that reads videos."""

    def kill(self, rng: random.Random) -> None:
        """Kill the worker or one of its processes."""


class Light:
    """A process that calls `extract`, forked from a preloaded server."""

    def __init__(self, videos: list[Path], out: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["video_features.runs.jobs", "families.trouble"])
        self._process = context.Process(target=_work, args=(videos, out, dict(os.environ)))
        self._process.start()

    def is_running(self) -> bool:
        return self._process.is_alive()

    def reader(self) -> int:
        return self._process.pid or 0

    def kill(self, rng: random.Random) -> None:
        self._process.kill()
        self._process.join()


def _work(videos: list[Path], out: Path, environment: dict[str, str]) -> None:
    from video_features import extract

    os.environ.update(environment)  # the fork server may have an older environment
    for _ in extract(videos, "trouble", output_path=out, device="cpu"):
        pass


class Command:
    """`video-features extract` with a child process that reads the videos; `kill` ends one of the two."""

    def __init__(self, videos: list[Path], out: Path) -> None:
        words = command("extract", "trouble", *videos, "--output-path", out, "--device", "cpu")
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def reader(self) -> int:
        readers = [child for server in _children(self._process.pid) for child in _children(server)]
        return readers[0] if readers else self._process.pid

    def kill(self, rng: random.Random) -> None:
        victim = rng.choice([self._process.pid, self.reader()])
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        if victim == self._process.pid:
            self._process.wait()


def _children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def make_videos(folder: Path, count: int) -> list[Path]:
    """Write short lossless videos. Red identifies the video, green the frame."""
    folder.mkdir()
    return [
        write_video(
            folder / f"{k:03}.avi",
            [np.full((16, 16, 3), (10 + k, 10 + frame, 100), np.uint8) for frame in range(FRAMES)],
            codec="rawvideo",
            pix_fmt="bgr24",
        )
        for k in range(count)
    ]


def under_fire(
    start: Callable[[list[Path], Path], Worker],
    videos: list[Path],
    out: Path,
    trace: Path,
    *,
    kills: int,
    workers: int = 3,
    seed: int = 0,
) -> list[int]:
    """Start workers, kill and restart them `kills` times, then let them finish. Return the ids of the killed processes.

    A quarter of the kills hit a worker at any time, even during startup. The other kills wait until the worker has
    begun a video.
    """
    rng = random.Random(seed)
    running = [start(videos, out) for _ in range(workers)]
    is_spared = [True] * workers  # no kill during startup
    killed: list[int] = []
    while len(killed) < kills:
        time.sleep(rng.uniform(*PAUSE_SECONDS))
        k = rng.randrange(workers)
        if not running[k].is_running():
            if not any(worker.is_running() for worker in running):
                break
            continue
        reader = running[k].reader()
        if is_spared[k] and f"\n{reader} " not in f"\n{trace.read_text() if trace.exists() else ''}":
            continue
        running[k].kill(rng)
        killed.append(reader)
        is_spared[k] = rng.random() < 0.75
        if not running[k].is_running():
            running[k] = start(videos, out)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(worker.is_running() for worker in running):
        assert time.monotonic() < deadline, "the workers did not finish"
        time.sleep(0.05)
    return killed


def check(videos: list[Path], out: Path, undisturbed: Path, trace: Path, killed: list[int]) -> dict[str, Any]:
    """Check that every output is complete, correct and written once. Return counts of kills and restarts."""
    from video_features import extract

    statuses = Counter(outcome.status for outcome in extract(videos, "trouble", output_path=out, device="cpu"))
    assert statuses == {"skipped": len(videos)}, statuses
    expected = {path.relative_to(undisturbed) for path in undisturbed.glob("trouble/**/*") if path.is_file()}
    found = {path.relative_to(out) for path in out.glob("trouble/**/*") if path.is_file()}
    assert found == expected, found ^ expected
    for path in (path for path in expected if path.suffix == ".npy"):
        np.testing.assert_allclose(np.load(out / path), np.load(undisturbed / path), rtol=1e-5, err_msg=str(path))

    began: dict[int, list[int]] = {k: [] for k in range(len(videos))}  # process ids by video number
    for line in trace.read_text().splitlines():
        process, red, green = map(int, line.split())
        if green == 10:
            began[red - 10].append(process)
    for k, processes in began.items():
        survivors = [process for process in processes if process not in killed]
        assert processes, f"video {k} was never begun"
        assert len(set(processes)) == len(processes) and len(survivors) <= 1, (
            f"video {k} was begun by processes {processes}"
        )
    done: Counter[str] = Counter()
    for line in (out / "outcomes.jsonl").read_text().splitlines():
        with suppress(ValueError):  # a killed process may leave a partial line
            end = json.loads(line)
            done[end["location"]] += end["status"] == "done"
    assert max(done.values()) == 1, "a kill must not make any video done twice"
    return {"kills": len(killed), "begun again": sum(len(processes) - 1 for processes in began.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    global PAUSE_SECONDS
    PAUSE_SECONDS = (0.5, 6.0)  # a command takes seconds to start
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(install(folder / "site"))
        sys.path.insert(0, str(folder / "site"))
        videos = make_videos(folder / "videos", arguments.videos)
        subprocess.run(command("extract", "trouble", *videos, "--output-path", folder / "undisturbed"), check=True)
        trace = folder / "trace.txt"
        os.environ.update(TROUBLE_SECONDS=str(1.0), TROUBLE_TRACE=str(trace))
        killed = under_fire(
            Command,
            videos,
            folder / "out",
            trace,
            kills=arguments.kills,
            workers=arguments.workers,
            seed=arguments.seed,
        )
        os.environ.pop("TROUBLE_TRACE")
        print(check(videos, folder / "out", folder / "undisturbed", trace, killed))


if __name__ == "__main__":
    main()
