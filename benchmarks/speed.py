"""How fast every family is, beside its limits and a plain loop.

    python benchmarks/speed.py [--runs 5] [--only resnet18,s3d] [--runtime auto] [--write]

For each case a process of its own loads the feature and a plain loop (benchmarks/plain.py) with the same weights and
batch size, checks that their rows agree, and then times one after the other, again and again, and between them what
bounds ours: decoding, preprocessing and the network alone. Another process only extracts, for its memory. Loading,
conversion and compilation are not counted. `--write` keeps the seconds of each case in benchmarks/speed.json as it
ends, beside those that this machine measured before, and docs/speed.md shows them all. All of it takes about
seventy-five minutes on two cores, a third of them the stream of flow of I3D. Linux and macOS.
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
from speed_report import DOCUMENT, Result, Results, Round, ThreeResult, document, heading, machine

from video_features import extract
from video_features.cli.demo import packaged_video
from video_features.runtimes.threads import cores_here

THREE_NAME = "three"


def difference(found: npt.NDArray[Any], expected: npt.NDArray[Any], allowed: float) -> float:
    """The largest, relative to the largest value; raises SystemExit where it is too large, or the shapes differ."""
    if found.shape != expected.shape:
        raise SystemExit(f"the plain loop gives an array {expected.shape}, and the extractor {found.shape}")
    largest = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not largest < allowed:  # nor NaN
        raise SystemExit(f"the plain loop's rows differ from the extractor's by {largest:.1e} of the largest value")
    return largest


def timed(what: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    before = time.perf_counter()
    result = what()
    return time.perf_counter() - before, result


def measure(case: Case, folder: Path, runs: int, runtime: str, peak: float) -> Result:
    """In this process: warm up, check, and time."""
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
    """This process's largest memory in MB, which loads a feature and extracts it, and does nothing else."""
    case.load(folder, runtime).extract(case.source(folder), end_seconds=case.end_seconds)
    return peak_mb()


def seconds_each(cases: list[Case], videos: list[Path], folder: Path, runtime: str) -> list[float]:
    """Features of each video in one run, from its beginning to its end: the seconds of each video but the first, which
    has the loading of networks in it."""
    settings = {case.feature: case.all_settings(folder, runtime) for case in cases}
    outcomes = extract(videos, list(settings), device="cpu", **settings)
    ends = []
    for _ in videos:
        for outcome in islice(outcomes, len(cases)):
            assert outcome.features is not None, outcome.reason
        ends.append(time.perf_counter())
    return [end - before for before, end in pairwise(ends)]


def measure_three(folder: Path, runs: int, runtime: str, peak: float) -> ThreeResult:
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
    seconds_each(THREE, [packaged_video(THREE_OF)], folder, runtime)
    return peak_mb()


def child(what: str, case: str, folder: str, runs: str, runtime: str, peak: str) -> None:
    """What the processes do that the command starts; the last line that they print is JSON."""
    place = Path(folder)
    by_name = {one.name: one for one in CASES}
    if what == "peak":
        print(peak_of_three(place, runtime) if case == THREE_NAME else peak_of(by_name[case], place, runtime))
    elif case == THREE_NAME:
        print(json.dumps(asdict(measure_three(place, int(runs), runtime, float(peak)))))
    else:
        print(json.dumps(asdict(measure(by_name[case], place, int(runs), runtime, float(peak)))))


def in_a_process(what: str, case: str, folder: Path, options: argparse.Namespace, peak: float = 0) -> Any:
    command = [sys.executable, __file__, "--child", what, case, str(folder), str(options.runs), options.runtime]
    done = subprocess.run([*command, str(peak)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{case}: it ended so (see above)")
    return json.loads(done.stdout.splitlines()[-1])


def chosen(only: str | None) -> list[str]:
    """The names of the cases to measure. Raises SystemExit for one that there is not."""
    names = [*(case.name for case in CASES), THREE_NAME]
    wanted = names if only is None else only.split(",")
    if unknown := [name for name in wanted if name not in names]:
        raise SystemExit(f"there is no {', '.join(unknown)}: there is {', '.join(names)}")
    return [name for name in names if name in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="paired runs of each case")
    parser.add_argument("--only", help=f"cases: {', '.join(chosen(None))}; by default all")
    parser.add_argument("--runtime", default="auto", help="the setting of every feature that has it")
    parser.add_argument("--write", action="store_true", help="keep the results, and write docs/speed.md")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return 0
    names, results = chosen(options.only), Results()

    def keep() -> None:
        if options.write:
            results.write()
            DOCUMENT.write_text(document(results, [case.name for case in CASES]), encoding="utf-8")

    print(f"{machine()}\n\n{heading()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="speed") as temporary:
        folder = Path(temporary)
        for case in [one for one in CASES if one.name in names]:
            case.prepare(folder)
            peak = in_a_process("peak", case.name, folder, options)
            result = Result.told(in_a_process("measure", case.name, folder, options, peak))
            print(result.row(), flush=True)
            results.cases[case.name] = result
            keep()
        if THREE_NAME in names:
            for case in THREE:
                case.prepare(folder)
            peak = in_a_process("peak", THREE_NAME, folder, options)
            results.three = ThreeResult(**in_a_process("measure", THREE_NAME, folder, options, peak))
            print(f"\n{results.three.table()}")
            keep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
