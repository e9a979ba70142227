"""The command `video-features config`, and the option `--config FILE` of `video-features extract`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .. import registry
from ..errors import OutputError, SettingsError
from ..settings import unknown
from ..settings.config import FEATURE, read_config, template
from ..settings.parse import names_of
from ..settings.resolve import RUN_SETTINGS
from .report import explain_errors

OPTION = "--config"
# What a file says besides settings. Each may also have its name in the reference tool.
FEATURES = (FEATURE, "feature_type")
PATHS = ("paths", "video_paths")
LIST = "file_with_video_paths"


@dataclass(frozen=True)
class RunFile:
    """The content of a configuration file.

    features: the features that it names; empty if it names none
    settings: {name or feature.name: value}
    """

    features: list[str]
    paths: tuple[str, ...]
    list_file: str | None
    settings: dict[str, Any]

    def overridden(self, settings: Mapping[str, Any], paths: tuple[str, ...], list_file: str | None) -> RunFile:
        """Return this content with what the command line gives instead."""
        if not paths and list_file is None:
            paths, list_file = self.paths, self.list_file
        return RunFile(self.features, paths, list_file, _merged(self.settings, settings))


def read(file: str, features: Sequence[str] = ()) -> RunFile:
    """Read a configuration file. Settings of features that it names, but that are not extracted, are left out.

    features: the features to extract; empty: those that the file names
    Raises SettingsError, which names the file, if it cannot be read or has a name that is no setting.
    """
    where = f"{OPTION} {file}"
    found = {_underscored(name): value for name, value in read_config(file, where).items()}
    given = ",".join(name for key in FEATURES for name in _listed(found.pop(key, None)))
    named = registry.split(given) if given else []
    paths = tuple(path for key in PATHS for path in _listed(found.pop(key, None)))
    list_file = found.pop(LIST, None)
    try:
        known = {feature: names_of(registry.family(feature).Settings) for feature in features or named}
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from error
    settings = {}
    for name, value in found.items():
        feature = name.partition(".")[0]
        is_empty_section = name in {*known, *named} and value is None  # everything in it is commented out
        if not is_empty_section and (feature in known or feature not in named):
            _check_name(name, known, where)
            settings[name] = value
    return RunFile(named, paths, None if list_file is None else str(list_file), settings)


def _check_name(name: str, known: Mapping[str, Sequence[str]], where: str) -> None:
    """Raise SettingsError unless a name is a setting of the run, of all features, or `feature.name` of one."""
    feature, _, setting = name.partition(".")
    owner, names = feature, known.get(feature, ())
    if not names:
        owner, setting = " and ".join(known), name
        names = [*(name for names in known.values() for name in names), *sorted(RUN_SETTINGS), *PATHS, LIST, FEATURE]
    if known and setting not in names:
        raise SettingsError(f"{where}: {unknown(f'setting of {owner}', setting, dict.fromkeys(names))}")


def _underscored(name: str) -> str:
    feature, dot, setting = name.partition(".")
    is_feature = bool(dot) and feature in registry.names()
    return f"{feature}.{setting.replace('-', '_')}" if is_feature else name.replace("-", "_")


def _listed(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    return [str(item) for item in values]


def _merged(file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file and of the command line, which wins.

    `--batch-size 4` also takes the place of `r21d.batch_size` in the file, and `--weights` that of `weights.rgb`.
    """
    kept = {name: value for name, value in file.items() if not any(_replaces(other, name) for other in given)}
    return {**kept, **given}


def _replaces(given: str, name: str) -> bool:
    (given_feature, given_setting), (feature, setting) = _split(given), _split(name)
    is_same = f"{setting}.".startswith(f"{given_setting}.") or f"{given_setting}.".startswith(f"{setting}.")
    return is_same and given_feature in ("", feature)


def _split(name: str) -> tuple[str, str]:
    feature, dot, setting = name.partition(".")
    return (feature, setting) if dot and feature in registry.names() else ("", name)


def option() -> click.Option:
    """Return the option `--config` of `extract`."""
    help = "YAML file of settings, feature and paths; `video-features config FEATURE` writes one."
    return click.Option([OPTION], metavar="FILE", help=help)


def with_features(args: Sequence[str]) -> list[str]:
    """Return the arguments of `extract` with the features of `--config FILE` in front, unless they begin with features.

    Raises click.UsageError if the file cannot be read, or names no feature where the arguments do not, either.
    """
    *_, file = (None, *_files(args))
    if file is None or (args and _may_be_features(args[0])):
        return list(args)
    try:
        features = read(file).features
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    if not features:
        raise click.UsageError(
            f"{OPTION} {file}: names no feature; write feature: NAME in the file, or the feature after extract"
        )
    return [",".join(features), *args]


def _files(args: Sequence[str]) -> Iterator[str]:
    for index, word in enumerate(args):
        if word == "--":
            return
        if word == OPTION and index + 1 < len(args):
            yield args[index + 1]
        elif word.startswith(f"{OPTION}="):
            yield word.partition("=")[2]


def _may_be_features(word: str) -> bool:
    """Whether a word is features or a misspelt feature, and not a path or an option."""
    if all(name in registry.names() for name in registry.split(word)):
        return True
    return bool(re.fullmatch(r"\w[\w,-]*", word)) and not Path(word).exists()


def command(defaults: Mapping[str, Any]) -> click.Command:
    """Return the command `config`. defaults: of settings of the run, on the command line only"""

    @click.command(short_help="Write a configuration file with all settings of features.")
    @click.argument("features", metavar="FEATURE[,FEATURE…]")
    @click.option("--output", metavar="FILE", help="File to write.  [default: standard output]")
    def config(features: str, output: str | None) -> None:
        """Write a configuration file for FEATURE: every setting with its default and help, commented out.

        \b
          video-features config r21d --output run.yaml
          video-features extract --config run.yaml *.mp4

        The command line takes precedence over the file.
        """
        with explain_errors():
            text = template({name: registry.family(name).Settings for name in registry.split(features)}, defaults)
            if output is None:
                click.echo(text, nl=False)
                return
            _write(output, text)
            click.echo(f"{output}: change it, then run: video-features extract {OPTION} {output} PATH…", err=True)

    return config


def _write(output: str, text: str) -> None:
    try:
        with Path(output).expanduser().open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise OutputError(f"{output}: exists already; remove it, or give another --output") from None
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from None
