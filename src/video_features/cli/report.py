"""Report to the user, as text or JSON lines: a line per outcome, predictions, a summary, and the exit status."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from ..errors import SettingsError, VideoFeaturesError, counted, printable, redacted
from ..features import Outcome, Prediction, real_time
from ..locations import shown
from ..signals import INTERRUPTED
from .summary import Summary

if TYPE_CHECKING:
    from ..runs.jobs import Job
    from ..runs.planning import Plan
    from ..runs.status import Status

OK, FAILED, WRONG_USAGE = 0, 1, 2


def report(start: Callable[[], Job], *, as_json: bool = False, profile: bool = False, quiet: bool = False) -> int:
    """Run a job, and print each outcome as it comes and a summary. Returns the exit status: 1 if any failed, else 0.

    start: makes the job
    profile: whether to print at the end how much time each activity took
    quiet: whether to print failures only
    Predictions go to standard output, everything else to standard error.
    """
    began = time.monotonic()
    job = start()  # which prints the first line: the imports below take a moment
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from ..engines.base import Observer
    from ..runs.progress import Progress

    summary = Summary(job.total, len(job.features), began, job.root)
    observer = Observer() if as_json or quiet else Progress(job.total, began)
    print_one = _print_json if as_json else partial(print_outcome, quiet=quiet)
    try:
        with logging_redirect_tqdm(tqdm_class=tqdm):
            for outcome in job.outcomes(observer):
                summary.add(outcome)
                with tqdm.external_write_mode(file=sys.stderr):
                    print_one(outcome)
    except KeyboardInterrupt:
        how_to_continue = "no file is half-written. Rerun the same command to continue; videos under way start anew"
        text = f"interrupted: {summary.counts()}, {summary.left()}; {how_to_continue}"
        _print_summary(text, summary, as_json, "interrupted")
        return INTERRUPTED
    except VideoFeaturesError:
        if as_json or summary.has_outcomes:
            _print_summary(f"stopped: {summary.counts()}, {summary.left()}", summary, as_json, "stopped")
        raise
    summary.finish()
    if as_json or not (quiet or summary.has_one_outcome):
        _print_summary("\n".join(summary.lines()), summary, as_json, "summary")
    if profile:
        _print_profile(observer.seconds, as_json)
    return FAILED if summary.is_failed else OK


def _print_summary(text: str, summary: Summary, as_json: bool, event: str) -> None:
    click.echo(json.dumps({"event": event, **summary.as_json()}) if as_json else text, err=True)


def _print_profile(seconds: Mapping[str, float], as_json: bool) -> None:
    """Print the time that all threads and processes spent, by activity, longest first."""
    if as_json:
        click.echo(json.dumps({"event": "profile", "seconds": seconds}), err=True)
        return
    if not seconds:
        click.echo("no time was spent on any video", err=True)
        return
    click.echo("time spent by all threads, which run in parallel:", err=True)
    for activity, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        click.echo(f"{spent:10.2f} s  {activity}", err=True)


def print_outcome(outcome: Outcome, *, quiet: bool = False) -> None:
    """Print a line for an outcome, and its predictions. quiet: no line unless it failed"""
    if outcome.status == "failed":
        click.secho(printable(f"failed: {outcome.feature}: {outcome.reason}"), fg="red", err=True)
        return
    if not quiet:
        click.echo(_describe(outcome), err=True)
    if outcome.features is not None and outcome.features.predictions is not None:
        click.echo(prediction_tables(outcome.location, outcome.feature, outcome.features.predictions))


def _print_json(outcome: Outcome) -> None:
    click.echo(json.dumps({"event": "outcome", **outcome.as_json()}), err=True)


def report_status(states: Iterable[Status]) -> int:
    """Print the progress of the runs in an output folder, and return the exit status."""
    newest: dict[tuple[str, str], Status] = {}
    for state in states:
        newer = newest.setdefault((state.feature, state.model), state)
        model = f" ({state.model})" if state.model else ""
        began = "" if state.began is None else f", last started {state.began.astimezone():%Y-%m-%d %H:%M:%S}"
        names = sorted({*state.settings, *newer.settings})
        changed = [name for name in names if state.settings.get(name) != newer.settings.get(name)]
        earlier = ", ".join(f"{name} {state.settings.get(name)}" for name in changed)
        earlier = "" if newer is state else f", an earlier run with {earlier or 'other weights'}"
        click.echo(printable(f"{state.feature}{model}: {counted(state.videos, 'video')}{began}{earlier}"))
        counts = {
            "done": state.done,
            "under way": len(state.under_way),
            "left": state.left,
            "failed": state.failed.total(),
            "conflicting": state.conflicting.total(),
        }
        for label, count in counts.items():
            click.echo(f"{count:8} {label}")
            reasons: Counter[str] = {"failed": state.failed, "conflicting": state.conflicting}.get(label, Counter())
            for reason, with_reason in reasons.most_common():
                click.echo(f"{'':10}{with_reason:8} {printable(reason)}")
            for video in state.under_way if label == "under way" else ():
                click.echo(f"{'':10}{video}")
        for note in state.notes:
            click.secho(f"  {printable(note)}", fg="red")
    return OK


def report_plans(plans: Iterable[Plan]) -> int:
    """Print what each video would give, and return the exit status: 1 if any video would fail, else 0."""
    failed = False
    for plan in plans:
        length = "unknown length" if plan.seconds is None else f"{plan.seconds:.2f} s"
        if plan.frames or plan.sound_seconds:
            click.echo(f"{printable(plan.location)}: {length}{'' if plan.fps is None else f' at {plan.fps:.6g} fps'}")
        for feature, shapes in plan.shapes.items():
            for key, shape in shapes.items():
                name = feature if key == feature else f"{feature} {key}"
                about = "about " if plan.is_estimate else ""
                click.echo(
                    f"  {name}: {about}{_input_length(plan, feature)} → {about}{counted(shape[0], 'row')}, {shape}"
                )
        for feature, reason in plan.reasons.items():
            failed = True
            click.secho(printable(f"would fail: {feature}: {reason}"), fg="red", err=True)
    return FAILED if failed else OK


def _input_length(plan: Plan, feature: str) -> str:
    if feature in plan.frames:
        return counted(plan.frames[feature], "frame")
    return f"{plan.sound_seconds[feature]:.2f} s of sound"


def _describe(outcome: Outcome) -> str:
    """The line of an outcome that did not fail."""
    assert outcome.features is not None
    shapes = ", ".join(f"{key} {shape}" for key, shape in outcome.features.shapes.items())
    previews = (path for path in outcome.files if str(path).endswith(".mp4"))
    files = [*outcome.files[:1], *previews]
    where = f" → {' and '.join(map(shown, files))}" if files else ""
    remark = _speed(outcome) if outcome.status == "done" else outcome.reason
    return f"{outcome.status}: {printable(outcome.location)}: {shapes}{printable(where)} ({remark})"


def _speed(outcome: Outcome) -> str:
    elapsed = f"{outcome.elapsed_seconds:.1f} s"
    if not outcome.video_seconds or not outcome.elapsed_seconds:
        return elapsed
    return f"{elapsed}, {real_time(outcome.video_seconds, outcome.elapsed_seconds)}"


class _Text(logging.Formatter):
    """Messages of this package and of other libraries, without the secrets of URLs."""

    def format(self, record: logging.LogRecord) -> str:
        kind = "" if record.levelno < logging.WARNING else f"{record.levelname.capitalize()}: "
        return presentable(f"{kind}{super().format(record)}")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"event": record.levelname.lower(), "message": redacted(record.getMessage())})


def presentable(message: str) -> str:
    """Return a message without the secrets of URLs, and with the characters escaped that `printable` escapes."""
    return "\n".join(printable(line) for line in redacted(message).split("\n"))


@contextmanager
def explain_errors(*, as_json: bool = False, quiet: bool = False) -> Iterator[None]:
    """Print an error of this package as one line, and exit with the status for that error.

    quiet: whether to leave out messages that are neither errors nor warnings
    """
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(_Text())
    logging.basicConfig(level=logging.WARNING, handlers=[to_stderr])
    logging.getLogger(__package__.partition(".")[0]).setLevel(logging.WARNING if quiet else logging.INFO)
    if as_json:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_Json())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name that the terminal cannot show must not stop a run
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except VideoFeaturesError as error:
        message = json.dumps({"event": "error", "message": str(error)}) if as_json else presentable(f"Error: {error}")
        click.secho(message, fg=None if as_json else "red", err=True)
        sys.exit(WRONG_USAGE if isinstance(error, SettingsError) else FAILED)
    except KeyboardInterrupt:
        click.echo(json.dumps({"event": "interrupted"}) if as_json else "interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of standard output has exited, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


def prediction_tables(location: str, feature: str, predictions: Mapping[str, Iterable[Prediction]]) -> str:
    """A table per row of a video, each under the time span of the row. predictions: {key: rows}, as in `Features`"""
    return "\n".join(
        f"{printable(location)}  {name}  {row.start_seconds:.2f}–{row.end_seconds:.2f} s\n{row.as_table()}\n"
        for name, rows in ((feature if key == feature else f"{feature} {key}", predictions[key]) for key in predictions)
        for row in rows
    )
