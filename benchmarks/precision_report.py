"""The results of benchmarks/precision.py, as a table and as a section of docs/runtimes.md."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from speed_report import heading, machine, saved_results, write_results

RESULTS = Path(__file__).parent / "precision.json"  # the measured seconds behind the section
DOCUMENT = Path(__file__).parents[1] / "docs" / "runtimes.md"
MARKERS = ("<!-- written by benchmarks/precision.py -->", "<!-- end of benchmarks/precision.py -->")
COLUMNS = (
    "case",
    "fp32 rows/s",
    "bf16 rows/s",
    "speed of bf16",
    "largest difference",
    "lowest cosine",
    "error / spread of the rows",
)


@dataclass(frozen=True)
class Pixels:
    """The mean and largest distance between the flow of a pixel in bf16 and in fp32, and the mean length in fp32."""

    mean: float
    largest: float
    length: float


@dataclass(frozen=True)
class Errors:
    """How much the rows in bf16 differ from the rows in fp32.

    largest: largest absolute difference, relative to the largest absolute value
    cosine: lowest cosine similarity of a row in bf16 with the same row in fp32
    of_spread: mean distance of a row from the same row in fp32, relative to the mean distance of a row in fp32 from the
        mean of all rows; None for flow, and if all rows are equal
    pixels: None if the rows are not flow
    """

    largest: float
    cosine: float
    of_spread: float | None
    pixels: Pixels | None


@dataclass(frozen=True)
class Result:
    """The measurements of a case.

    seconds: of each round: the networks alone in fp32, and in bf16
    runtimes: {precision: the runtimes of the networks}
    """

    what: str
    rows: int
    seconds: list[tuple[float, float]]
    errors: Errors
    runtimes: dict[str, list[str]]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Result:
        """Create a result from the output of `asdict`, read back from JSON."""
        seconds = [(fp32, bf16) for fp32, bf16 in fields["seconds"]]
        pixels = fields["errors"]["pixels"]
        errors = Errors(**{**fields["errors"], "pixels": None if pixels is None else Pixels(**pixels)})
        return cls(**{**fields, "seconds": seconds, "errors": errors})

    def row(self) -> str:
        """Return this case's line of the table."""
        errors = self.errors
        others = sorted({name for names in self.runtimes.values() for name in names if not name.startswith("openvino")})
        cells = (
            f"{self.what} ({', '.join(others)})" if others else self.what,
            *(f"{self.rows / median(each[k] for each in self.seconds):.3g}" for k in (0, 1)),
            f"×{median(fp32 / bf16 for fp32, bf16 in self.seconds):.2f}",
            f"{errors.largest:.1e}",
            f"{errors.cosine:.5f}",
            _in_pixels(errors.pixels) if errors.of_spread is None else f"{errors.of_spread:.1%}",
        )
        return f"| {' | '.join(cells)} |"


def _in_pixels(pixels: Pixels | None) -> str:
    if pixels is None:
        return ""
    return f"{pixels.mean:.2g} of {pixels.length:.2g} pixels, at most {pixels.largest:.2g}"


class Results:
    """Results by case name, kept in a file from run to run.

    A new measurement of a case replaces the old one. Results from another machine or other versions are dropped.
    """

    def __init__(self, path: Path = RESULTS):
        self.path = path
        self.cases = {name: Result.from_json(each) for name, each in saved_results(path).get("cases", {}).items()}

    def write(self) -> None:
        write_results(self.path, {"cases": {name: asdict(result) for name, result in self.cases.items()}})


def section(results: Results, order: list[str]) -> str:
    """Return the section of docs/runtimes.md. order: case names in the order of the table"""
    measured = [results.cases[name] for name in order if name in results.cases]
    missing = [name for name in order if name not in results.cases]
    table = "\n".join([heading(COLUMNS), *(result.row() for result in measured)])
    not_measured = f"\n\nNot measured: {', '.join(missing)}." if missing else ""
    runs = max((len(result.seconds) for result in measured), default=0)
    fewer = [f"; {result.what}: {len(result.seconds)}" for result in measured if len(result.seconds) < runs]
    days = " and ".join(saved_results(results.path).get("days", []))
    return f"""### bf16 on a CPU

`python benchmarks/precision.py --write`, {days}: {machine()}.

{table}{not_measured}

Do not use bf16 for flow that must be accurate to less than a pixel, nor for EfficientNet-Lite, which keeps only about \
one digit in it.

Rows/s are of the networks alone in OpenVINO, warm: medians of {runs} rounds{"".join(fewer)}. The speed of bf16 is the \
median of the rounds' ratios. A whole run gains less, because decoding and preprocessing stay the same. The rows are \
those of a few seconds of a real video.

- **largest difference**: of a value in bf16 from the value in fp32, relative to the largest value in fp32.
- **lowest cosine**: the lowest cosine similarity of a row in bf16 with the same row in fp32.
- **error / spread of the rows**: the mean distance of a row from the same row in fp32, relative to the mean distance \
of a row in fp32 from the mean of all rows. Rows of consecutive frames, or of the two \
overlapping clips of i3d flow, are similar, so their spread is small. For \
flow: the mean distance in pixels between the vectors of a pixel, of their mean length in fp32; and the largest \
distance.

All weights are stand-ins, which are random, except the real weights of tf_efficientnet_lite0. Trained networks may \
lose more or less, so compare a few videos of your own in both precisions before you use bf16.
"""
