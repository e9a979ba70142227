"""What a run tells its user: a line a video, predictions, a summary, and the exit status."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from .errors import SettingsError, VideoFeaturesError, counted
from .features import Outcome
from .predictions import tables

if TYPE_CHECKING:
    from .planning import Plan

OK, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def report(outcomes: Iterable[Outcome]) -> int:
    """Tell how each video ended as it ends, then the counts; the exit status: 1 if any failed, else 0.

    Predictions go to standard output, everything else to standard error.
    """
    counts: Counter[str] = Counter()
    try:
        for outcome in outcomes:
            counts[outcome.status] += 1
            if outcome.status == "failed":
                click.secho(f"failed: {outcome.feature}: {outcome.reason}", fg="red", err=True)
                continue
            click.echo(_ended(outcome), err=True)
            if outcome.features is not None and outcome.features.predictions is not None:
                click.echo(tables(outcome.location, outcome.feature, outcome.features.predictions))
    except KeyboardInterrupt:
        click.echo(
            f"interrupted: {_summary(counts)}; nothing half-written: the same command goes on, and begins the video "
            "that was under way anew",
            err=True,
        )
        return INTERRUPTED
    if sum(counts.values()) > 1:
        click.echo(_summary(counts), err=True)
    return FAILED if counts["failed"] else OK


def report_plans(plans: Iterable[Plan]) -> int:
    """Print what each video would give; the exit status: 1 if any would fail, else 0."""
    failed = False
    for plan in plans:
        length = "unknown length" if plan.seconds is None else f"{plan.seconds:.2f} s"
        if plan.frames or plan.sound_seconds:
            click.echo(f"{plan.location}: {length}{'' if plan.fps is None else f' at {plan.fps:.6g} fps'}")
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
    shapes = ", ".join(f"{key} {array.shape}" for key, array in outcome.features.values.items())
    to_tell = [*outcome.files[:1], *(path for path in outcome.files if path.suffix == ".mp4")]  # which is to look at
    where = f" → {' and '.join(map(str, to_tell))}" if to_tell else ""
    took = f"{outcome.elapsed_seconds:.1f} s" if outcome.status == "done" else outcome.reason
    return f"{outcome.status}: {outcome.location}: {shapes}{where} ({took})"


def _summary(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[status]} {status}" for status in ("done", "skipped", "failed"))


@contextmanager
def explained() -> Iterator[None]:
    """Show this package's errors as one line, and leave with the status that goes with them."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger(__package__).setLevel(logging.INFO)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except VideoFeaturesError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(WRONG_USAGE if isinstance(error, SettingsError) else FAILED)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read standard output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
