"""Measures the speed of every family, and compares it with its limits and with a plain loop.

    python benchmarks/speed.py [--runs 5] [--only resnet18,s3d] [--runtime auto] [--write]

Each case runs in a new process. The process loads the feature and a plain loop (benchmarks/plain.py) with the same
weights and batch size, and checks that their rows agree. It then times, in each of several rounds, the plain loop, the
extractor, and the extractor's limits: decoding, preprocessing and the network alone. A second process only extracts,
to measure memory. Loading, conversion and compilation are not counted. `--write` saves the seconds of each finished
case in benchmarks/speed.json, together with earlier results from this machine, and writes all of them to docs/speed.md.
All cases take about seventy-five minutes on two cores, a third of it for the flow stream of I3D. Linux and macOS.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from limits import counted_frames, decode_alone, network_alone, preprocessing_alone, recorded_batches, threads
from memory import peak_mb
from plain import plain_loop
from speed_cases import CASES, THREE, THREE_OF, Case
from speed_report import Result, Results, Round, ThreeResult, document, heading, machine, write_document

from video_features import extract
from video_features.cli.demo import packaged_video
from video_features.runtimes.threads import cores_here

THREE_NAME = "three"


def difference(found: npt.NDArray[Any], expected: npt.NDArray[Any], allowed: float) -> float:
    """Return the largest difference, relative to the largest value.

    Raises SystemExit if it is not below `allowed`, or if the shapes differ.
    """
    if found.shape != expected.shape:
        raise SystemExit(f"the plain loop gives an array {expected.shape}, and the extractor {found.shape}")
    largest = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not largest < allowed:  # also catches NaN
        raise SystemExit(f"the plain loop's rows differ from the extractor's by {largest:.1e} of the largest value")
    return largest


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call of `function` takes, and its result."""
    gc.collect()
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def measure(case: Case, folder: Path, runs: int, runtime: str, peak: float) -> Result:
    """Warm up, compare the rows, and time the rounds, all in this process."""
    path, end, cores = case.source(folder), case.end_seconds, cores_here()
    extractor = case.load(folder, runtime)
    key = extractor.streams[0].key
    loop = plain_loop(extractor)

    def ours() -> npt.NDArray[Any]:
        return extractor.extract(path, end_seconds=end).values[key]

    def plain(until: float | None = end) -> npt.NDArray[Any]:
        with threads(cores):
            return loop(path, until)

    with recorded_batches(extractor) as batches:
        found = np.array(ours())
    _, seconds = decode_alone(extractor, path, end)
    if case.plain_warm_up_seconds is None:
        largest = difference(found, plain(), case.allowed_difference)
    else:
        expected = plain(case.plain_warm_up_seconds)
        largest = difference(found[: len(expected)], expected, case.allowed_difference)
    rounds: list[Round] = []
    for _ in range(runs):
        plain_seconds, _ = timed(plain)
        our_seconds, _ = timed(ours)
        if case.limits_once and rounds:
            limits = [rounds[0].network, rounds[0].decode, rounds[0].preprocess]
        else:
            limits = [
                network_alone(batches),
                decode_alone(extractor, path, end)[0],
                preprocessing_alone(extractor, path, end),
            ]
        rounds.append(Round(plain_seconds, our_seconds, *limits))
    return Result(case.what, case.target, len(found), seconds, largest, rounds, peak, cores)


def peak_of(case: Case, folder: Path, runtime: str) -> float:
    """Peak memory of this process in MB. The process only loads the feature and extracts it once."""
    case.load(folder, runtime).extract(case.source(folder), end_seconds=case.end_seconds)
    return peak_mb()


def seconds_each(cases: list[Case], videos: list[Path], folder: Path, runtime: str) -> list[float]:
    """Extract all cases' features from the videos in one run, and return the seconds of each video except the first.

    The first video is left out because it includes the loading of the networks.
    """
    settings = {case.feature: case.all_settings(folder, runtime) for case in cases}
    outcomes = extract(videos, list(settings), device="cpu", **settings)
    ends = []
    for _ in videos:
        for outcome in islice(outcomes, len(cases)):
            assert outcome.features is not None, outcome.reason
        ends.append(time.perf_counter())
    return [end - previous for previous, end in pairwise(ends)]


def measure_three(folder: Path, runs: int, runtime: str, peak: float) -> ThreeResult:
    """Time three features of one video in one run, and in one run per feature."""
    videos = [folder / f"three_{k}.mp4" for k in range(runs + 1)]
    for video in videos:
        shutil.copyfile(packaged_video(THREE_OF), video)
    with counted_frames() as one_run:
        together = seconds_each(THREE, videos, folder, runtime)
    with counted_frames() as three_runs:
        alone = [seconds_each([case], videos, folder, runtime) for case in THREE]
    rounds = list(zip(together, map(sum, zip(*alone, strict=True)), strict=True))
    return ThreeResult(rounds, one_run[0] // len(videos), three_runs[0] // len(videos), peak)


def peak_of_three(folder: Path, runtime: str) -> float:
    """Peak memory of this process in MB after the three features in one run."""
    seconds_each(THREE, [packaged_video(THREE_OF)], folder, runtime)
    return peak_mb()


def child(action: str, name: str, folder_name: str, runs: str, runtime: str, peak: str) -> None:
    """Run one action in a child process, and print the result as JSON on the last line.

    action: "peak" or "measure"
    """
    folder = Path(folder_name)
    cases = {case.name: case for case in CASES}
    if action == "peak":
        print(peak_of_three(folder, runtime) if name == THREE_NAME else peak_of(cases[name], folder, runtime))
    elif name == THREE_NAME:
        print(json.dumps(asdict(measure_three(folder, int(runs), runtime, float(peak)))))
    else:
        print(json.dumps(asdict(measure(cases[name], folder, int(runs), runtime, float(peak)))))


def run_child(action: str, name: str, folder: Path, options: argparse.Namespace, peak: float = 0) -> Any:
    """Run `child` in a new process, and return its result. Raises SystemExit if the process fails."""
    command = [sys.executable, __file__, "--child", action, name, str(folder), str(options.runs), options.runtime]
    process = subprocess.run([*command, str(peak)], stdout=subprocess.PIPE, text=True)
    if process.returncode:
        raise SystemExit(
            f"{name}: the child process failed with exit status {process.returncode}; see the output above"
        )
    return json.loads(process.stdout.splitlines()[-1])


def chosen(only: str | None) -> list[str]:
    """Return the names of the cases to measure. Raises SystemExit for an unknown name."""
    names = [*(case.name for case in CASES), THREE_NAME]
    wanted = names if only is None else only.split(",")
    if unknown := [name for name in wanted if name not in names]:
        raise SystemExit(f"unknown case {', '.join(unknown)}; known cases: {', '.join(names)}")
    return [name for name in names if name in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="rounds of each case")
    parser.add_argument("--only", help=f"cases to measure, joined by commas: {', '.join(chosen(None))}; default: all")
    parser.add_argument("--runtime", default="auto", help="the setting `runtime` of every feature that has one")
    parser.add_argument("--write", action="store_true", help="save the results, and write docs/speed.md")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return 0
    names, results = chosen(options.only), Results()

    def save() -> None:
        if options.write:
            results.write()
            write_document(document(results, [case.name for case in CASES]))

    print(f"{machine()}\n\n{heading()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="speed") as temporary:
        folder = Path(temporary)
        for case in [case for case in CASES if case.name in names]:
            case.prepare(folder)
            peak = run_child("peak", case.name, folder, options)
            result = Result.from_json(run_child("measure", case.name, folder, options, peak))
            print(result.row(), flush=True)
            results.cases[case.name] = result
            save()
        if THREE_NAME in names:
            for case in THREE:
                case.prepare(folder)
            peak = run_child("peak", THREE_NAME, folder, options)
            results.three = ThreeResult(**run_child("measure", THREE_NAME, folder, options, peak))
            print(f"\n{results.three.table()}")
            save()
    return 0


if __name__ == "__main__":
    sys.exit(main())
