"""The command `video-features extract`. Its options are the settings of the named features and of the run."""

from __future__ import annotations

import dataclasses
import sys
from itertools import chain, islice
from typing import Any

import click
from click.shell_completion import CompletionItem

from .. import registry
from ..errors import SettingsError
from ..settings import RunSettings
from ..settings.parse import own_fields_first
from . import completion
from . import config as config_file
from .report import explain_errors, report, report_plans

# Options can also be spelled like the settings: --output_path as well as --output-path.
CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda name: name.replace("_", "-"),
    "max_content_width": 110,
}
# Defaults of the command line only: in Python, nothing is written and no process is started unless asked for.
DEFAULTS = {"output_path": "output", "isolate": True}


class FeatureGroup(click.Group):
    """A group whose subcommands are features, alone or joined by commas. A subcommand is built when it is named."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Features"):
            formatter.write_dl([(name, registry.summary(name)) for name in registry.names()])

    def list_commands(self, ctx: click.Context) -> list[str]:
        return registry.names()

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        is_option = incomplete.startswith("-")
        return super().shell_complete(ctx, incomplete) if is_option else completion.features(incomplete)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, config_file.with_features(args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0].startswith("-"):
            raise SettingsError(f"the feature comes first: {ctx.command_path} {self.subcommand_metavar}")
        features = registry.split(args[0])
        try:
            return args[0], _extract_command(features), args[1:]
        except SettingsError:
            if ctx.resilient_parsing:  # the shell completes a word
                return None, None, []
            raise


@click.group(
    cls=FeatureGroup,
    no_args_is_help=True,
    subcommand_metavar="FEATURE[,FEATURE…] PATH… [--SETTING VALUE …]",
    context_settings={"ignore_unknown_options": True},  # resolve_command explains where options belong
)
def extract() -> None:
    """Extract one or more features from videos.

    \b
      video-features extract resnet a.mp4 b.mkv --output-path features --model-name resnet18
      video-features extract timm frames/ --source-fps 25 --model-name resnet50.a1_in1k
      video-features extract clip,resnet *.mp4 --clip.model-name RN50 --resnet.batch-size 32

    PATH is a video or audio file in any format that FFmpeg reads, a folder of images, or a URL. Several features,
    joined by commas, share one decoding of each video. Use --FEATURE.SETTING to apply a setting to one feature only.
    --config FILE reads settings, and where the command line has none, FEATURE and PATH from a YAML file.

    `video-features extract FEATURE --help` lists the settings of a feature.
    """


def _extract_command(features: list[str]) -> click.Command:
    settings = {name: own_fields_first(registry.family(name).Settings) for name in features}
    shared = [
        field for field in settings[features[0]] if all(_has_field(fields, field) for fields in settings.values())
    ]
    several = len(features) > 1
    feature_options = [option for field in shared for option in _options(field, field.name, features, hidden=several)]
    feature_options += [
        option
        for name in features
        for field in settings[name]
        for option in _options(field, f"{name}.{field.name}", [name], hidden=not several)
    ]

    def run(**given: Any) -> None:
        sys.exit(_run(features, given))

    return click.Command(
        ",".join(features),
        callback=run,
        params=[
            click.Argument(["paths"], nargs=-1, metavar="PATH…", shell_complete=completion.files),
            *feature_options,
            click.Option(
                ["--file-with-video-paths"],
                metavar="FILE",
                shell_complete=completion.files,
                help="Text file with more paths, one per line, or CSV with the columns path, start_seconds, "
                "end_seconds, id; - is standard input.",
            ),
            config_file.option(),
            *(option for field in dataclasses.fields(RunSettings) for option in _options(field, field.name, [])),
            *_flags(),
        ],
        help="\n\n".join(registry.summary(name) for name in features),
        epilog="Use --SETTING VALUE to apply a setting to all of these features at once." if several else None,
        context_settings=CONTEXT,
    )


def _flags() -> list[click.Option]:
    """What a command does and prints; not a setting, which both command lines and Python have."""
    return [
        click.Option(
            ["--dry-run"],
            is_flag=True,
            help="Only print the length and frame rate of each video, and the rows and shape of its features.",
        ),
        click.Option(
            ["--profile"],
            is_flag=True,
            help="Print at the end how much time was spent on decoding, preprocessing, the network and writing.",
        ),
        click.Option(
            ["-q", "--quiet"], is_flag=True, help="Print warnings and failures only: no progress, no summary."
        ),
        click.Option(
            ["--log-json"], is_flag=True, help="Report everything as JSON on standard error, one object per line."
        ),
    ]


def _has_field(fields: list[dataclasses.Field[Any]], wanted: dataclasses.Field[Any]) -> bool:
    return any(field.name == wanted.name for field in fields)


def _options(
    field: dataclasses.Field[Any], setting: str, features: list[str], *, hidden: bool = False
) -> list[click.Option]:
    """The option of a setting, and a hidden option for each part of the setting. features: those that have it"""
    complete = completion.of_setting(field, features)
    help, metavar = field.metadata["help"], field.metadata["metavar"]
    default = DEFAULTS.get(setting, field.default)
    if field.type in ("bool", bool):
        flag, name = _names(setting)
        flags = f"{flag}/--no-{flag.removeprefix('--')}" if default else flag  # to switch off what is on by default
        return [click.Option([flags, name], is_flag=True, default=None, help=help, hidden=hidden)]
    if default not in (None, ""):
        help = f"{help}  [default: {f'{default:g}' if isinstance(default, float) else default}]"
    parts = [
        click.Option(_names(f"{setting}.{part}"), metavar=metavar, shell_complete=complete, hidden=True)
        for part in field.metadata["parts"]
    ]
    return [
        click.Option(_names(setting), help=help, metavar=metavar, shell_complete=complete, hidden=hidden),
        *parts,
    ]


def _names(setting: str) -> list[str]:
    return [f"--{setting.replace('_', '-')}", setting.replace(".", "__")]


def _run(features: list[str], given: dict[str, Any]) -> int:
    as_json, profile, quiet = given.pop("log_json"), given.pop("profile"), given.pop("quiet")
    with explain_errors(as_json=as_json, quiet=quiet):
        list_file, paths, dry_run = given.pop("file_with_video_paths"), given.pop("paths"), given.pop("dry_run")
        file = given.pop("config")
        settings = {name.replace("__", "."): value for name, value in given.items() if value is not None}
        if file is not None:
            read = config_file.read(file, features).overridden(settings, paths, list_file)
            settings, paths, list_file = read.settings, read.paths, read.list_file
        if not dry_run:
            settings = {**DEFAULTS, **settings}
        resolved, _ = registry.resolve_settings(features, settings)
        paths = _listed(paths, list_file, lazily=resolved.engine == "ray")
        if not paths and not resolved.retry_failed:
            raise SettingsError("no videos: give one or more paths, or --file-with-video-paths FILE")
        if dry_run:
            from ..runs.planning import plan

            return report_plans(plan(paths, features, **settings))
        from ..runs.jobs import Job

        return report(lambda: Job(paths, features, settings), as_json=as_json, profile=profile, quiet=quiet)


def _listed(paths: tuple[str, ...], list_file: str | None, *, lazily: bool) -> Any:
    """The paths, then those in a file. Raises SettingsError at once if the file cannot be read."""
    if list_file is None:
        return paths
    from ..tasks.lists import each_listed

    videos = each_listed(list_file)
    first = list(islice(videos, 1 if lazily else None))
    return chain(paths, first, videos)
