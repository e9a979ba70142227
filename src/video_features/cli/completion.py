"""Completes words in a shell: features, models, and the values of settings. Nothing is imported that takes long."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from click import Context, Parameter
from click.shell_completion import CompletionItem

from .. import registry
from ..cache import NotRememberedError, only_remembered
from ..errors import VideoFeaturesError
from ..outputs.formats import known_formats
from ..runtimes.devices import may_have_gpu
from ..settings.parse import names_network

Items = list[CompletionItem]
Complete = Callable[[Context, Parameter, str], Items]


def files(ctx: Context, param: Parameter, incomplete: str) -> Items:
    """Let the shell complete the name of a file."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: Context, param: Parameter, incomplete: str) -> Items:
    """Let the shell complete the name of a folder."""
    return [CompletionItem(incomplete, type="dir")]


def one_feature(ctx: Context, param: Parameter, incomplete: str) -> Items:
    """Complete the name of a feature."""
    return [CompletionItem(name, help=registry.summary(name)) for name in registry.names() if _starts(name, incomplete)]


def features(incomplete: str) -> Items:
    """Complete the last of several features that are joined by commas."""
    before, comma, last = incomplete.rpartition(",")
    taken = registry.split(before)
    names = [name for name in registry.names() if _starts(name, last) and name not in taken]
    return [CompletionItem(f"{before}{comma}{name}", help=registry.summary(name)) for name in names]


def models(ctx: Context, param: Parameter, incomplete: str) -> Items:
    """Complete a model of the feature that the words before name as the argument FEATURE."""
    # While the value of an option is missing, click leaves the arguments in `args`.
    words = [ctx.params.get("feature"), *ctx.args]
    return _items(_models([word for word in words if word in registry.names()][:1]), incomplete)


def of_setting(field: dataclasses.Field[Any], features: Sequence[str]) -> Complete | None:
    """Return what completes the value of a setting, or None if the value may be anything.

    features: the features that have the setting; none for a setting of the run
    """
    metavar: str = field.metadata["metavar"]
    if metavar == "FILE":
        return files
    if metavar == "DIR":
        return folders
    if names_network(field):
        return _one_of(lambda: _models(features))
    if field.name in VALUES:
        return _one_of(VALUES[field.name])
    return _one_of(lambda: metavar.split("|")) if "|" in metavar and metavar.islower() else None


def _one_of(values: Callable[[], Iterable[str]]) -> Complete:
    return lambda ctx, param, incomplete: _items(values(), incomplete)


def _items(values: Iterable[str], incomplete: str) -> Items:
    return [CompletionItem(value) for value in values if _starts(value, incomplete)]


def _starts(value: str, incomplete: str) -> bool:
    return value.startswith(incomplete)


def _models(features: Iterable[str]) -> list[str]:
    """Return the models of the features, without those that only a library knows and that are not remembered."""
    found: dict[str, None] = {}
    for feature in features:
        try:
            with only_remembered():
                found.update(dict.fromkeys(registry.family(feature).list_models()))
        except (VideoFeaturesError, NotRememberedError):
            continue
    return list(found)


def _devices() -> list[str]:
    gpu = "mps" if sys.platform == "darwin" else "cuda:0"
    return [gpu, "cpu"] if may_have_gpu() else ["cpu"]


VALUES: dict[str, Callable[[], Iterable[str]]] = {
    "device": _devices,
    "on_extraction": known_formats,
}
