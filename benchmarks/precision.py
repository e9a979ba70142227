"""Measures what precision=bf16 gains and costs on this CPU, in OpenVINO, for every family.

    python benchmarks/precision.py [--rounds 5] [--only resnet18,s3d] [--write]

Each case is a case of benchmarks/speed.py, up to an earlier second of its video. The feature is extracted in fp32 and
in bf16, and the rows are compared. Then the batches of both are run through the networks alone, in turns. Loading,
conversion and compilation are not counted. `--write` saves each finished case in benchmarks/precision.json, together
with earlier results from this machine, and writes all of them to docs/runtimes.md. All cases take about fifteen minutes
on two cores. Only on a CPU with AVX-512 BF16 or AMX.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from limits import Call, network_alone, recorded_batches
from precision_report import COLUMNS, DOCUMENT, MARKERS, Errors, Pixels, Result, Results, section
from speed_cases import CASES, Case
from speed_report import heading, machine, write_section

from video_features import Extractor, SettingsError

PRECISIONS = ("fp32", "bf16")
FLOW = ("raft", "pwc")
ROUNDS_OF_SLOW_CASES = 1  # those that benchmarks/speed.py also measures once
# Seconds of the video, enough for several rows; the networks cost the same in every second.
SECONDS = {
    "lite0": 4.0,
    "resnet18": 4.0,
    "resnet50": 2.0,
    "clip": 2.0,
    "r21d": 5.2,
    "s3d": 10.0,
    "torchvision_video": 5.2,
    "i3d_rgb": 10.0,
    "i3d_flow": 1.25,
    "raft": 0.16,
    "pwc": 0.24,
    "vggish": 30.0,
}


def errors(found: npt.NDArray[Any], exact: npt.NDArray[Any], *, is_flow: bool) -> Errors:
    """Return how much the rows in bf16 differ from the rows in fp32. Raises SystemExit if the shapes differ."""
    if found.shape != exact.shape:
        raise SystemExit(f"bf16 gives an array {found.shape}, and fp32 {exact.shape}")
    difference = found.astype(np.float64) - exact
    pixels = None
    if is_flow:
        distances, lengths = (np.sqrt((vectors**2).sum(axis=1)) for vectors in (difference, exact.astype(np.float64)))
        pixels = Pixels(float(distances.mean()), float(distances.max()), float(lengths.mean()))
    off, ours, theirs = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (difference, found, exact))
    products = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    spread = np.linalg.norm(theirs - theirs.mean(axis=0), axis=1).mean()
    return Errors(
        largest=float(np.abs(off).max() / np.abs(theirs).max()),
        cosine=float(((ours * theirs).sum(axis=1) / products).min()),
        of_spread=float(np.linalg.norm(off, axis=1).mean() / spread) if spread and not is_flow else None,
        pixels=pixels,
    )


def measure(case: Case, folder: Path, rounds: int) -> Result:
    """Compare the rows of both precisions, and time their networks. Raises SystemExit if this CPU has no bf16."""
    case.prepare(folder)
    extractors = {precision: loaded(case, folder, precision) for precision in PRECISIONS}
    rows, batches, runtimes = {}, {}, {}
    for precision, extractor in extractors.items():
        rows[precision], batches[precision], runtimes[precision] = extracted(extractor, case, folder)
    seconds: list[tuple[float, float]] = []
    for _ in range(ROUNDS_OF_SLOW_CASES if case.limits_once else rounds):
        seconds.append((network_alone(batches["fp32"]), network_alone(batches["bf16"])))
    found = errors(rows["bf16"], rows["fp32"], is_flow=case.feature in FLOW)
    return Result(case.what.partition(",")[0], len(rows["fp32"]), seconds, found, runtimes)


def loaded(case: Case, folder: Path, precision: str) -> Extractor:
    try:
        return replace(case, settings={**case.settings, "precision": precision}).load(folder, "openvino")
    except SettingsError as error:
        raise SystemExit(f"{case.name}: {error}") from None


def extracted(extractor: Extractor, case: Case, folder: Path) -> tuple[npt.NDArray[Any], list[Call], list[str]]:
    """Extract once, which also warms up. Return the rows, the batches of the networks and the names of the runtimes."""
    with recorded_batches(extractor) as batches:
        features = extractor.extract(case.source(folder), end_seconds=SECONDS[case.name])
    runtimes = sorted({stream.run.runtime.name for stream in extractor.all_streams()})
    return np.array(features.values[extractor.streams[0].key]), batches, runtimes


def chosen(only: str | None) -> list[Case]:
    """Return the cases to measure. Raises SystemExit for an unknown name."""
    wanted = list(SECONDS) if only is None else only.split(",")
    if unknown := [name for name in wanted if name not in SECONDS]:
        raise SystemExit(f"unknown case {', '.join(unknown)}; known cases: {', '.join(SECONDS)}")
    return [case for case in CASES if case.name in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each case")
    parser.add_argument("--only", help=f"cases to measure, joined by commas: {', '.join(SECONDS)}; default: all")
    parser.add_argument("--write", action="store_true", help="save the results, and write them to docs/runtimes.md")
    options = parser.parse_args()
    cases, results = chosen(options.only), Results()
    print(f"{machine()}\n\n{heading(COLUMNS)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="precision") as temporary:
        for case in cases:
            results.cases[case.name] = measure(case, Path(temporary), options.rounds)
            print(results.cases[case.name].row(), flush=True)
            gc.collect()  # the networks of this case, before the next ones are loaded
            if options.write:
                results.write()
                write_section(section(results, list(SECONDS)), DOCUMENT, MARKERS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
