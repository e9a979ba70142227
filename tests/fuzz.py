"""Extracts features from damaged files in one process, and reports every file that is not treated as it should be.

    python tests/fuzz.py --files 5000 --seed 0
    python tests/fuzz.py --only 17

Of every file, for every frame, at a rate, and for a number of frames: no crash, no hang, no exception out of `extract`,
no reason with another library's exception in it, no more rows than the packets allow, no endless memory. A file that
fails a check stays in the folder `--keep`, with its seed and the mutation in its name; so does the file at which the
process crashed or hung.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import re
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mutations import Packets, mutated, packets_of, write_sources
from video_features import extract, registry
from video_features.errors import printable, with_kind
from video_features.features import Outcome

RUNS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "every frame": (["colour", "loudness"], {}),
    "at 5 fps": (["colour"], {"extraction_fps": 5}),
    "at 25 fps": (["colour"], {"extraction_fps": 25}),
    "7 in all": (["colour"], {"extraction_total": 7}),
}
FILES_PER_CALL = 25
MEMORY_BYTES = 2 << 30  # more than before a file; the files are a few kilobytes
ADDRESSES_BYTES = 12 << 30  # beyond this an allocation fails, so that the machine survives
FOREIGN = re.compile(r"\b[A-Z]\w*(Error|Exception|Warning)\b|Traceback|\.py\b")


class Tracebacks(logging.Handler):
    """Collects log records that show an exception."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or FOREIGN.search(record.getMessage().rpartition("/")[2]):
            self.found.append(f"logged: {record.getMessage()}")


def main() -> int:
    options = parse()
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_DATA, (ADDRESSES_BYTES, ADDRESSES_BYTES))
    registry._modules().update(colour="families.colour", loudness="families.loudness")
    handler = Tracebacks()
    logging.getLogger().handlers = [handler]
    options.keep.mkdir(parents=True, exist_ok=True)
    seeds = [options.only] if options.only is not None else range(options.seed, options.seed + options.files)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "sources").mkdir()
        sources = write_sources(work / "sources")
        warm_up(sources[0], work)
        fuzz = Fuzz(work / "out", options.keep / "last.txt", options.seconds_limit, verbose=options.only is not None)
        for start in range(0, len(seeds), FILES_PER_CALL):
            damaged = [write(seed, sources, options.keep) for seed in seeds[start : start + FILES_PER_CALL]]
            for run in RUNS:
                fuzz.run(run, damaged)
            for file in damaged:
                if not file.problems and options.only is None:
                    file.path.unlink()
                failures += bool(file.problems)
                for problem in file.problems:
                    print(f"seed {file.seed} ({file.path.name}): {problem}", flush=True)
            fuzz.problems += handler.found
            handler.found.clear()
    for problem in fuzz.problems:
        print(problem)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(f"{len(seeds)} files, {failures} failed a check; {dict(fuzz.statuses)}; at most {peak:.2f} GB of memory")
    return 1 if failures or fuzz.problems else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=200, help="how many damaged files to try")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first file; the next files have the next")
    parser.add_argument("--only", type=int, metavar="SEED", help="try this file alone, show how it ends, and keep it")
    parser.add_argument("--seconds-limit", type=float, default=20, help="a file that takes longer has hung")
    keep = Path(tempfile.gettempdir()) / "video_features_fuzz"
    parser.add_argument("--keep", type=Path, default=keep, help=f"folder for files that fail a check ({keep})")
    return parser.parse_args()


def warm_up(source: Path, work: Path) -> None:
    """Load all libraries, so that their memory and time count for no file."""
    for outcome in extract(str(source), ["colour", "loudness"], device="cpu", output_path=work / "warm"):
        assert outcome.status == "done", outcome.reason


@dataclass
class Damaged:
    """A damaged file, what its packets allow, and what went wrong with it."""

    seed: int
    path: Path
    packets: Packets
    problems: list[str] = field(default_factory=list)


def write(seed: int, sources: list[Path], keep: Path) -> Damaged:
    """Write the damaged file of a seed. It stays where it is if the process crashes."""
    source, data, mutation = mutated(seed, sources)
    name = re.sub(r"[^\w .,-]", "", f"{seed:06} {source.stem}, {mutation}")[:150]
    path = keep / f"{name}{source.suffix}"
    path.write_bytes(data)
    return Damaged(seed, path, packets_of(path))


class Fuzz:
    """Extracts features from damaged files, and adds to each what is wrong with its outcomes.

    last: a file that always names the last file that has ended, for crashes
    problems: what is wrong with no single file
    """

    def __init__(self, output_path: Path, last: Path, seconds_limit: float, *, verbose: bool) -> None:
        self.statuses = Counter[str]()
        self.problems: list[str] = []
        self._output_path, self._last = output_path, last
        self._seconds_limit, self._verbose = seconds_limit, verbose

    def run(self, name: str, files: list[Damaged]) -> None:
        """Extract features from all files in one way, which `RUNS` names."""
        features, settings = RUNS[name]
        expected = [(str(file.path), feature) for file in files for feature in features]
        ended: list[tuple[str, str]] = []
        peak, by_path = _peak_bytes(), {str(file.path): file for file in files}
        try:
            self._watch()
            paths = list(by_path)
            for outcome in extract(paths, features, device="cpu", output_path=self._output_path, **settings):
                self._watch()
                self._last.write_text(f"{name}: {outcome.feature} of {outcome.location} has ended")
                ended.append((outcome.location, outcome.feature))
                file, grown = by_path[outcome.location], _peak_bytes() - peak
                peak += grown
                problems = [*self._check(outcome, file, settings)]
                if grown > MEMORY_BYTES:
                    problems.append(f"{grown / 1e9:.1f} GB of memory")
                file.problems += [f"{name}: {outcome.feature}: {problem}" for problem in problems]
        except Exception as error:
            self.problems.append(f"{name}: extract raised {with_kind(error)} after {ended[-1:]}")
        faulthandler.cancel_dump_traceback_later()
        if ended != expected[: len(ended)] or (len(ended) < len(expected) and not self.problems):
            self.problems.append(f"{name}: {len(expected)} outcomes were expected, and {len(ended)} came")
        shutil.rmtree(self._output_path, ignore_errors=True)

    def _watch(self) -> None:
        """End the process, with the tracebacks of all threads, unless this is called again before the limit."""
        faulthandler.dump_traceback_later(self._seconds_limit, exit=True)

    def _check(self, outcome: Outcome, file: Damaged, settings: dict[str, Any]) -> Iterator[str]:
        self.statuses[outcome.status] += 1
        rows = None if outcome.features is None else len(outcome.features)
        if self._verbose:
            print(f"{settings} {outcome.feature}: {outcome.status} {rows} rows {outcome.reason} {file}")
        yield from problems_of(outcome, file.path)
        # With `extraction_total`, frames repeat if there are fewer.
        most = settings.get("extraction_total") or file.packets.most_rows(settings.get("extraction_fps"))
        if outcome.feature == "colour" and rows is not None and rows > most:
            yield f"{rows} rows, and at most {most} are possible with {file.packets}"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def problems_of(outcome: Outcome, path: Path) -> Iterator[str]:
    """Yield what is wrong with an outcome: no status, a reason for programmers, numbers that cannot be."""
    if outcome.features is None:
        rest = outcome.reason.removeprefix(f"{printable(str(path))}: ")
        if outcome.status != "failed" or rest == outcome.reason or not rest.strip():
            yield f"{outcome.status} with the reason {outcome.reason!r}"
        if FOREIGN.search(rest) or "\n" in rest or outcome.error not in ("MediaError", "OutputError"):
            yield f"a reason for programmers ({outcome.error}): {rest}"
        return
    if outcome.status != "done":
        yield f"{outcome.status} with features"
    values = outcome.features.values[outcome.feature]
    starts, ends = outcome.features.start_seconds, outcome.features.end_seconds
    if not len(values) or not np.isfinite(values).all():
        yield "no rows, or rows that are not finite"
    if not (np.isfinite(starts).all() and (ends >= starts).all() and (np.diff(starts) >= 0).all()):
        yield f"times that cannot be: from {starts.tolist()} to {ends.tolist()}"


if __name__ == "__main__":
    sys.exit(main())
