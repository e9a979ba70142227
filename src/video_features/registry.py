"""Names of features → the families that make them, found without a list: one module a family.

A family is a module of `video_features.models`, or of any installed package that names it under the entry point
group `video_features.families`. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from . import models
from .errors import SettingsError, in_one_line
from .settings import FeatureSettings, RunSettings, unknown
from .settings.resolve import resolve
from .settings.source import read_settings
from .signals import signals_blocked
from .weights import Weights

if TYPE_CHECKING:
    from .extraction import Extractor

GROUP = "video_features.families"
NOT_INSTALLED = "(not installed)"


class Family(Protocol):
    """What a family's module defines; its docstring's first line is its line in the help."""

    Settings: type[Any]
    """A dataclass of the settings it takes, each declared by `settings.setting`."""

    def list_models(self) -> list[str]:
        """Its networks: every value of the setting that names one, such as `model_name`, where it has that; else those
        that it needs."""

    def published_weights(self, model_name: str) -> Weights:
        """Where that network's weights are; SettingsError for an unknown name."""

    def build(self, settings: Any, *, predict: bool) -> Extractor:
        """Everything that one feature needs; no weights are loaded yet. predict: logits are wanted, with labels."""


@cache
def _modules() -> dict[str, str]:
    own = {
        module.name: f"{models.__name__}.{module.name}"
        for module in pkgutil.iter_modules(models.__path__)
        if not module.name.startswith("_")
    }
    plugins = {point.name: point.module for point in importlib.metadata.entry_points(group=GROUP)}
    return {**plugins, **own}


def names() -> list[str]:
    """Every feature there is, sorted."""
    return sorted(_modules())


def summary(name: str) -> str:
    """A family's line in the help: the first of its docstring, read without importing it."""
    try:
        spec = importlib.util.find_spec(_modules()[name])
    except ModuleNotFoundError:  # the package that the module should be in
        spec = None
    if spec is None or spec.origin is None:
        return NOT_INSTALLED
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def split(features: str | Sequence[str]) -> list[str]:
    """The features that `"clip,r21d"` or `["clip", "r21d"]` names, each once."""
    names = features.split(",") if isinstance(features, str) else features
    return list(dict.fromkeys(name.strip() for name in names))


def installed() -> list[str]:
    """Those of `names` whose module is there."""
    return [name for name in names() if summary(name) != NOT_INSTALLED]


def family(name: str) -> Family:
    """The family of this name; SettingsError, with the nearest names, if there is none."""
    module = _module(name)
    try:
        with signals_blocked():  # an interrupt in the midst of importing PyTorch ends in an abort
            return cast(Family, importlib.import_module(module))
    except ImportError as error:
        raise SettingsError(f"{name}: its package cannot be imported ({in_one_line(error)})") from error


def settings(name: str) -> type[Any]:
    """A family's settings, for the help and to tell mistakes early: where it can be, read without importing PyTorch.

    Not for `build`, which takes those of `family`. Raises SettingsError as `family` does.
    """
    module = _module(name)
    if module not in sys.modules:
        with (
            signals_blocked(),
            suppress(Exception),
        ):  # whatever it is: importing the family is sure, or says what is wrong
            return read_settings(module)
    return family(name).Settings


def resolve_settings(
    features: Sequence[str], given: Mapping[str, Any]
) -> tuple[RunSettings, dict[str, FeatureSettings]]:
    """The settings of the run and of each feature, typed and checked. See `settings.resolve`."""
    return resolve({name: family(name).Settings for name in features}, given)


def check_settings(features: Sequence[str], given: Mapping[str, Any]) -> None:
    """Raise SettingsError where `resolve_settings` would, but before PyTorch is imported, which takes seconds."""
    resolve({name: settings(name) for name in features}, given)


def _module(name: str) -> str:
    if name not in _modules():
        raise SettingsError(unknown("feature", name, names()))
    return _modules()[name]


def list_models(feature: str | None = None) -> list[str] | dict[str, list[str]]:
    """Every network of a feature; of all features, by feature, without an argument."""
    if feature is None:
        return {name: family(name).list_models() for name in installed()}
    return family(feature).list_models()
