"""Finds the family that computes a feature, by the feature's name.

A family is a module in `video_features.models`, or a module that an installed package registers under the entry point
group `video_features.families`. There is no central list, and a family is imported only when it is needed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from . import models
from .errors import SettingsError, cannot_import
from .outputs.formats import check_format
from .settings import FeatureSettings, RunSettings, unknown
from .settings.resolve import resolve
from .signals import signals_blocked
from .weights import Weights

if TYPE_CHECKING:
    from .extraction import Card, Extractor

ENTRY_POINT_GROUP = "video_features.families"
NOT_INSTALLED = "(not installed)"


class Family(Protocol):
    """Interface of a family's module. The first line of the module's docstring is its line in the help."""

    Settings: type[Any]
    """Dataclass of the family's settings, each declared with `settings.setting`."""

    def list_models(self) -> list[str]:
        """Return the names of the family's networks: every value of the setting that names a network, such as
        `model_name`, or all networks that the family needs if it has no such setting."""

    def published_weights(self, model_name: str) -> Weights:
        """Return the published weights of a network. Raises SettingsError for an unknown name."""

    def build(self, settings: Any, *, predict: bool) -> Extractor:
        """Build the extractor of a feature, without loading weights. predict: also compute logits, with labels."""


@cache
def _modules() -> dict[str, str]:
    built_in = {
        module.name: f"{models.__name__}.{module.name}"
        for module in pkgutil.iter_modules(models.__path__)
        if not module.name.startswith("_")
    }
    plugins = {point.name: point.module for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    return {**plugins, **built_in}


def names() -> list[str]:
    """Return the names of all features, sorted."""
    return sorted(_modules())


def summary(name: str) -> str:
    """Return a family's line in the help: the first line of its docstring, read without importing the module."""
    try:
        spec = importlib.util.find_spec(_modules()[name])
    except ModuleNotFoundError:  # the module's package is not installed
        spec = None
    if spec is None or spec.origin is None:
        return NOT_INSTALLED
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def split(features: str | Sequence[str]) -> list[str]:
    """Return the feature names in `"clip,r21d"` or `["clip", "r21d"]`, without duplicates."""
    names = features.split(",") if isinstance(features, str) else features
    return list(dict.fromkeys(name.strip() for name in names))


def installed() -> list[str]:
    """Return the names of all features whose module is installed."""
    return [name for name in names() if summary(name) != NOT_INSTALLED]


def family(name: str) -> Family:
    """Import and return the family of a feature.

    Raises SettingsError, with the closest names, for an unknown name, and if the module cannot be imported.
    """
    module = _module(name)
    try:
        with signals_blocked():  # an interrupt while PyTorch is being imported aborts the process
            return cast(Family, importlib.import_module(module))
    except ImportError as error:
        raise cannot_import(name, error) from error


def card(name: str) -> Card | None:
    """Return what the documentation says of a feature: the `CARD` of its family, or None if the family has none."""
    found: Card | None = getattr(family(name), "CARD", None)
    return found


def resolve_settings(
    features: Sequence[str], given: Mapping[str, Any]
) -> tuple[RunSettings, dict[str, FeatureSettings]]:
    """Return the settings of the run and of each feature, typed and checked. See `settings.resolve`."""
    run, by_feature = resolve({name: family(name).Settings for name in features}, given)
    check_format(run.on_extraction)
    return run, by_feature


def _module(name: str) -> str:
    if name not in _modules():
        raise SettingsError(unknown("feature", name, names()))
    return _modules()[name]


def list_models(feature: str | None = None) -> list[str] | dict[str, list[str]]:
    """Return the networks of a feature, or {feature: networks} of all features if `feature` is None."""
    if feature is None:
        return {name: family(name).list_models() for name in installed()}
    return family(feature).list_models()
