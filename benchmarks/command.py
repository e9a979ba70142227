"""Measures whole commands, cold and warm, and compares them with a plain script in a process of its own.

    python benchmarks/command.py [--pairs 5] [--cold-pairs 5] [--only resnet18_short,s3d_long] [--write]

Each job (benchmarks/command_cases.py) is a feature of one or a few videos. A round runs the plain script
(benchmarks/plain_script.py), the command `video-features extract` with an empty cache folder, and the command again,
one after another, so that a busy machine slows down all of them. The rows are compared in every round. The round
before the first one is not timed: it samples the memory of all processes. `--write` saves all runs of each finished job
in benchmarks/command.json, together with earlier results from this machine, and writes the section "Whole commands" of
docs/speed.md. All jobs with five pairs take about an hour and a half on two cores. Linux only: memory is read from
/proc.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from command_cases import JOBS, Job
from command_report import COLUMNS, Result, Results, Round, section
from processes import Run, run
from speed import difference
from speed_report import heading, machine, write_section

ALLOWED_DIFFERENCE = 1e-3  # where the case of benchmarks/speed.py allows no more
SET_BY_USERS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def measure(job: Job, folder: Path, pairs: int, cold_pairs: int) -> Result:
    """Compare the rows, sample memory, and time the rounds. Raises SystemExit if a run fails or the rows differ."""
    job.prepare(folder)
    sampled = one_round(job, folder, cold=True, samples_memory=True)
    largest = compare(job, folder)
    rounds = []
    for k in range(pairs):
        rounds.append(one_round(job, folder, cold=k < cold_pairs))
        largest = max(largest, compare(job, folder))
    return Result(job.what, job.target, largest, sampled, rounds)


def one_round(job: Job, folder: Path, *, cold: bool, samples_memory: bool = False) -> Round:
    """Run the script, the command with an empty cache folder if `cold`, and the command with what is in the folder."""
    script = run_script(job, folder, samples_memory=samples_memory)
    cold_run = None
    if cold:
        shutil.rmtree(cache_folder(folder), ignore_errors=True)
        cold_run = run_command(job, folder, samples_memory=samples_memory)
    return Round(script, cold_run, run_command(job, folder, samples_memory=samples_memory))


def run_script(job: Job, folder: Path, *, samples_memory: bool = False) -> Run:
    output = emptied(folder / "script")
    return run(
        job.script(folder, output),
        environment(folder),
        lambda: bool(job.outputs(output, of_script=True)),
        samples_memory=samples_memory,
    )


def run_command(job: Job, folder: Path, *, samples_memory: bool = False) -> Run:
    output = emptied(folder / "command")
    return run(
        job.command(folder, output),
        environment(folder),
        lambda: bool(job.outputs(output, of_script=False)),
        samples_memory=samples_memory,
    )


def compare(job: Job, folder: Path) -> float:
    """Return the largest difference of the rows of the last runs. Raises SystemExit if it is too large."""
    largest, allowed = 0.0, max(ALLOWED_DIFFERENCE, job.case.allowed_difference)
    ours = job.outputs(folder / "command", of_script=False)
    for found, expected in zip(ours, job.outputs(folder / "script", of_script=True), strict=True):
        rows, plain = np.load(found), np.load(expected)
        if len(rows) != job.rows:
            raise SystemExit(f"{job.name}: the command gives {len(rows)} rows instead of {job.rows}")
        largest = max(largest, difference(rows, plain, allowed))
    return largest


def environment(folder: Path) -> dict[str, str]:
    """Return this process's environment with a cache folder of our own, and with the default numbers of threads."""
    kept = {name: value for name, value in os.environ.items() if name not in SET_BY_USERS}
    return {**kept, "TORCH_HOME": str(cache_folder(folder))}


def cache_folder(folder: Path) -> Path:
    return folder / "cache"


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def chosen(only: str | None) -> list[Job]:
    """Return the jobs to measure. Raises SystemExit for an unknown name."""
    names = [job.name for job in JOBS]
    wanted = names if only is None else only.split(",")
    if unknown := [name for name in wanted if name not in names]:
        raise SystemExit(f"unknown job {', '.join(unknown)}; known jobs: {', '.join(names)}")
    return [job for job in JOBS if job.name in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="timed rounds of each job")
    parser.add_argument("--cold-pairs", type=int, help="how many of them also run the cold command; default: all")
    names = ", ".join(job.name for job in JOBS)
    parser.add_argument("--only", help=f"jobs to measure, joined by commas: {names}; default: all")
    parser.add_argument("--write", action="store_true", help="save the results, and write them to docs/speed.md")
    options = parser.parse_args()
    jobs, results = chosen(options.only), Results()
    cold_pairs = options.pairs if options.cold_pairs is None else options.cold_pairs
    print(f"{machine()}\n\n{heading(COLUMNS)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="command") as temporary:
        for job in jobs:
            results.jobs[job.name] = measure(job, Path(temporary), options.pairs, cold_pairs)
            print(results.jobs[job.name].row(), flush=True)
            if options.write:
                results.write()
                write_section(section(results, [job.name for job in JOBS]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
