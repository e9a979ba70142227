"""The results of benchmarks/command.py, as a table and as a section of docs/speed.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from processes import POLL_SECONDS, SAMPLE_SECONDS, Run
from speed_report import heading, machine, saved_results, write_results

RESULTS = Path(__file__).parent / "command.json"  # the measured runs behind the section
NOT_MEASURED = "–"
COLUMNS = (
    "job",
    "script (s)",
    "command, cold (s)",
    "command, warm (s)",
    "script / warm command",
    "target",
    "first output (s): script, cold, warm",
    "peak MB: script, cold, warm",
)


@dataclass(frozen=True)
class Round:
    """The plain script, the command with an empty cache (None if it was left out), and the command with a full one."""

    script: Run
    cold: Run | None
    warm: Run

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Round:
        return cls(**{name: Run(**run) if run else None for name, run in fields.items()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Result:
    """The measurements of a job.

    difference: largest difference between the rows of command and script, relative to the largest value
    sampled: the round whose memory was sampled; its seconds do not count
    """

    what: str
    target: float | None
    difference: float
    sampled: Round
    rounds: list[Round]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Result:
        """Create a result from the output of `asdict`, read back from JSON."""
        rounds = [Round.from_json(each) for each in fields["rounds"]]
        return cls(**{**fields, "sampled": Round.from_json(fields["sampled"]), "rounds": rounds})

    def row(self) -> str:
        """Return this job's line of the table."""
        ratios = [each.script.seconds / each.warm.seconds for each in self.rounds]
        cells = (
            self.what,
            *(self._median(side, _seconds) for side in ("script", "cold", "warm")),
            f"×{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else NOT_MEASURED,
            "" if self.target is None else f"×{self.target:g}",
            ", ".join(self._median(side, _first) for side in ("script", "cold", "warm")),
            ", ".join(f"{getattr(self.sampled, side).peak:.0f}" for side in ("script", "cold", "warm")),
        )
        return f"| {' | '.join(cells)} |"

    def _median(self, side: str, figure: Callable[[Run], float]) -> str:
        runs = [getattr(each, side) for each in self.rounds if getattr(each, side) is not None]
        return f"{median(map(figure, runs)):.2f}" if runs else NOT_MEASURED


def _seconds(run: Run) -> float:
    return run.seconds


def _first(run: Run) -> float:
    return run.first


class Results:
    """Results by job name, kept in a file from run to run.

    A new measurement of a job replaces the old one. Results from another machine or other versions are dropped.
    """

    def __init__(self, path: Path = RESULTS):
        self.path = path
        self.jobs = {name: Result.from_json(each) for name, each in saved_results(path).get("jobs", {}).items()}

    def write(self) -> None:
        write_results(self.path, {"jobs": {name: asdict(result) for name, result in self.jobs.items()}})


def section(results: Results, order: list[str]) -> str:
    """Return the section of docs/speed.md. order: job names in the order of the table"""
    measured = [results.jobs[name] for name in order if name in results.jobs]
    missing = [name for name in order if name not in results.jobs]
    table = "\n".join([heading(COLUMNS), *(result.row() for result in measured)])
    largest = max((result.difference for result in measured), default=0)
    not_measured = f"\n\nNot measured: {', '.join(missing)}." if missing else ""
    counts = sorted({len(result.rounds) for result in measured}) or [0]
    rounds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    days = " and ".join(saved_results(results.path).get("days", []))
    return f"""## Whole commands

`python benchmarks/command.py --write`, {days}: {machine()}. The videos are `bikes.mp4`, and `bigbuckbunny.mp4` for \
VGGish. All weights are stand-ins, in files that both sides load. `benchmarks/command.json` contains every run.

{table}{not_measured}

Whole processes, from the start of Python to its exit: imports, loading, decoding, transforms, the network and saving. \
Every time is the median of {rounds} rounds; each round runs the script, the cold command and the warm command, one \
after another. The rows are compared in every round. An earlier round, which is not timed, warms up the file system \
and samples memory.

- **script**: what a user would write by hand for this feature (`benchmarks/plain_script.py`): the network from \
torchvision, timm or open_clip, the weights from the same file, the plain loop in eager PyTorch, and one `.npy` file \
per video. It does not import this package; only the classes of i3d, pwc and vggish, which no library has, come from \
it, in place of the authors' files. The largest difference from the command's rows was {largest:.1e} of the largest \
value.
- **command, cold**: `video-features extract` with an empty cache folder: networks are converted, and nothing is known \
of libraries and files. The files themselves are in the memory of the operating system.
- **command, warm**: the same command again.
- **script / warm command**: the ratio of the times: the median of the rounds' ratios, with the smallest and the \
largest.
- **target**: the target ratio on two cores.
- **first output**: from the start of the process until the file with the first video's rows exists, to \
{POLL_SECONDS * 1000:g} ms. In a job of one row, this is when the first row is computed and saved.
- **peak MB**: the largest sum of the proportional set sizes (PSS) of all processes at one time, sampled every \
{SAMPLE_SECONDS * 1000:g} ms. Memory that several of them share counts once. What other commands on the machine share, \
such as the code of a library, counts in part, so measure on an idle machine.

One row, 10 s at 1 fps: the command has its default batch size, and the script takes batches of 16 frames. All other \
settings are the same on both sides.
"""
