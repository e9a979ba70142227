"""What a run tells its user: a line a video, predictions, a summary, the exit status; in words, or as JSON lines."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ..errors import SettingsError, VideoFeaturesError, counted, kind_of, printable
from ..features import Outcome, Prediction

if TYPE_CHECKING:
    from ..runs.jobs import Job
    from ..runs.planning import Plan
    from ..runs.status import Status

OK, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
STATUSES = ("done", "skipped", "failed")


class Summary:
    """What became of a run's videos so far.

    videos: how many there are; None where that is not known
    features: of each
    """

    def __init__(self, videos: int | None, features: int) -> None:
        self._total = None if videos is None else videos * features
        self._features = features
        self._began = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._video_seconds = 0.0

    def add(self, outcome: Outcome) -> None:
        self._counts[outcome.status] += 1
        self._video_seconds += outcome.video_seconds / self._features
        if outcome.status == "failed":
            kind = kind_of(outcome.reason, outcome.location)
            self._failures[kind] += 1
            self._examples.setdefault(kind, outcome.location)

    def finish(self) -> None:
        """Nothing more comes: what is left were two names of one file."""
        self._total = sum(self._counts.values())

    @property
    def is_failed(self) -> bool:
        return self._counts["failed"] > 0

    @property
    def is_of_one(self) -> bool:
        return self._total == 1

    def as_json(self) -> dict[str, Any]:
        elapsed = time.monotonic() - self._began
        ended = sum(self._counts.values())
        return {
            **{status: self._counts[status] for status in STATUSES},
            "left": None if self._total is None else max(0, self._total - ended),
            "elapsed_seconds": round(elapsed, 3),
            "videos_per_second": round(ended / self._features / elapsed, 4),
            "hours_of_video_per_hour": round(self._video_seconds / elapsed, 4),
            "failures": dict(self._failures.most_common()),
        }

    def counts(self) -> str:
        return ", ".join(f"{self._counts[status]} {status}" for status in STATUSES)

    def left(self) -> str:
        """What was not come to, in words."""
        if self._total is None:
            return "the rest of the list left"
        return f"{self.as_json()['left']} of {self._total} left"

    def lines(self) -> Iterator[str]:
        """The table at the end."""
        found = self.as_json()
        yield (
            f"{self.counts()} in {found['elapsed_seconds']:.1f} s: {found['videos_per_second']:.3g} videos/s, "
            f"{found['hours_of_video_per_hour']:.3g} hours of video per hour"
        )
        for kind, count in self._failures.most_common():
            yield f"{count:8} failed: {kind} (such as {printable(self._examples[kind])})"


def report(job: Job, *, as_json: bool = False, profile: bool = False) -> int:
    """Run a job and tell how each video ends as it ends, then a summary; the exit status: 1 if any failed, else 0.

    profile: whether to tell, too, what the time was spent on
    Predictions go to standard output, everything else to standard error.
    """
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from ..engines.base import Observer
    from ..runs.progress import Bars

    summary = Summary(job.total, len(job.features))
    bars = Observer() if as_json else Bars(job.total)
    tell_it = _tell_json if as_json else tell
    try:
        with logging_redirect_tqdm(tqdm_class=tqdm):
            for outcome in job.outcomes(bars):
                summary.add(outcome)
                with tqdm.external_write_mode(file=sys.stderr):
                    tell_it(outcome)
    except KeyboardInterrupt:
        how_to_go_on = "nothing half-written: the same command goes on, and begins what was under way anew"
        _say(f"interrupted: {summary.counts()}, {summary.left()}; {how_to_go_on}", summary, as_json, "interrupted")
        return INTERRUPTED
    except VideoFeaturesError:
        _say(f"stopped: {summary.counts()}, {summary.left()}", summary, as_json, "stopped")
        raise
    summary.finish()
    if as_json or not summary.is_of_one:
        _say("\n".join(summary.lines()), summary, as_json, "summary")
    if profile:
        _tell_seconds(bars.seconds, as_json)
    return FAILED if summary.is_failed else OK


def _say(words: str, summary: Summary, as_json: bool, event: str) -> None:
    click.echo(json.dumps({"event": event, **summary.as_json()}) if as_json else words, err=True)


def _tell_seconds(seconds: Mapping[str, float], as_json: bool) -> None:
    """What the time of all threads and processes was spent on, most of it first."""
    if as_json:
        click.echo(json.dumps({"event": "profile", "seconds": seconds}), err=True)
        return
    click.echo("the time of all threads, which work beside each other, was spent on", err=True)
    for what, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        click.echo(f"{spent:10.2f} s  {what}", err=True)


def tell(outcome: Outcome) -> None:
    """A line for how a video ended, and its predictions."""
    if outcome.status == "failed":
        click.secho(f"failed: {outcome.feature}: {outcome.reason}", fg="red", err=True)
        return
    click.echo(_ended(outcome), err=True)
    if outcome.features is not None and outcome.features.predictions is not None:
        click.echo(tables(outcome.location, outcome.feature, outcome.features.predictions))


def _tell_json(outcome: Outcome) -> None:
    click.echo(json.dumps({"event": "outcome", **outcome.as_json()}), err=True)


def report_status(states: Iterable[Status]) -> int:
    """Print how far the runs in an output folder are; the exit status."""
    newest: dict[tuple[str, str], Status] = {}
    for state in states:
        newer = newest.setdefault((state.feature, state.model), state)
        model = f" ({state.model})" if state.model else ""
        began = "" if state.began is None else f", last begun {state.began.astimezone():%Y-%m-%d %H:%M:%S}"
        names = sorted({*state.settings, *newer.settings})
        others = [name for name in names if state.settings.get(name) != newer.settings.get(name)]
        earlier = ", ".join(f"{name} {state.settings.get(name)}" for name in others)
        earlier = "" if newer is state else f", an earlier run, with {earlier or 'other weights'}"
        click.echo(f"{state.feature}{model}: {counted(state.videos, 'video')}{began}{earlier}")
        counts = {
            "done": state.done,
            "under way": len(state.under_way),
            "left": state.left,
            "failed": state.failed.total(),
            "conflicting": state.conflicting.total(),
        }
        for what, count in counts.items():
            click.echo(f"{count:8} {what}")
            details: Counter[str] = {"failed": state.failed, "conflicting": state.conflicting}.get(what, Counter())
            for reason, of_it in details.most_common():
                click.echo(f"{'':10}{of_it:8} {reason}")
            for video in state.under_way if what == "under way" else ():
                click.echo(f"{'':10}{video}")
        for note in state.notes:
            click.secho(f"  {note}", fg="red")
    return OK


def report_plans(plans: Iterable[Plan]) -> int:
    """Print what each video would give; the exit status: 1 if any would fail, else 0."""
    failed = False
    for plan in plans:
        length = "unknown length" if plan.seconds is None else f"{plan.seconds:.2f} s"
        if plan.frames or plan.sound_seconds:
            click.echo(f"{printable(plan.location)}: {length}{'' if plan.fps is None else f' at {plan.fps:.6g} fps'}")
        for feature, shapes in plan.shapes.items():
            for key, shape in shapes.items():
                what = feature if key == feature else f"{feature} {key}"
                about = "about " if plan.is_estimate else ""
                click.echo(f"  {what}: {about}{_taken(plan, feature)} → {about}{counted(shape[0], 'row')}, {shape}")
        for feature, reason in plan.reasons.items():
            failed = True
            click.secho(f"would fail: {feature}: {reason}", fg="red", err=True)
    return FAILED if failed else OK


def _taken(plan: Plan, feature: str) -> str:
    if feature in plan.frames:
        return counted(plan.frames[feature], "frame")
    return f"{plan.sound_seconds[feature]:.2f} s of sound"


def _ended(outcome: Outcome) -> str:
    assert outcome.features is not None
    shapes = ", ".join(f"{key} {shape}" for key, shape in outcome.features.shapes.items())
    previews = (path for path in outcome.files if str(path).endswith(".mp4"))  # which are to look at
    to_tell = [*outcome.files[:1], *previews]
    where = f" → {' and '.join(map(str, to_tell))}" if to_tell else ""
    took = f"{outcome.elapsed_seconds:.1f} s" if outcome.status == "done" else outcome.reason
    return f"{outcome.status}: {printable(outcome.location)}: {shapes}{printable(where)} ({took})"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"event": record.levelname.lower(), "message": record.getMessage()})


@contextmanager
def explained(*, as_json: bool = False) -> Iterator[None]:
    """Show this package's errors as one line, and leave with the status that goes with them."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger(__package__.partition(".")[0]).setLevel(logging.INFO)
    if as_json:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_Json())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except VideoFeaturesError as error:
        message = json.dumps({"event": "error", "message": str(error)}) if as_json else f"error: {error}"
        click.secho(message, fg=None if as_json else "red", err=True)
        sys.exit(WRONG_USAGE if isinstance(error, SettingsError) else FAILED)
    except KeyboardInterrupt:
        click.echo(json.dumps({"event": "interrupted"}) if as_json else "interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read standard output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


def tables(location: str, feature: str, predictions: Mapping[str, Iterable[Prediction]]) -> str:
    """The tables of a video's rows, each under its time span; predictions by key, as `Features` has them."""
    return "\n".join(
        f"{location}  {what}  {row.start_seconds:.2f}–{row.end_seconds:.2f} s\n{row.as_table()}\n"
        for what, rows in ((feature if key == feature else f"{feature} {key}", predictions[key]) for key in predictions)
        for row in rows
    )
