"""Settings as they are given, sorted into those of the run and those of each feature, typed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..errors import SettingsError
from .declare import unknown
from .parse import from_mapping, names_of
from .run import RunSettings

RUN_SETTINGS = {field.name for field in fields(RunSettings)}


def resolve(classes: Mapping[str, type[Any]], settings: Mapping[str, Any]) -> tuple[RunSettings, dict[str, Any]]:
    """The settings of the run, and {feature: its settings}.

    classes: {feature: the class of its settings}
    settings: `name: value` for the run or for every feature, `feature.name: value` or `feature: {name: value}` for one
    Raises SettingsError for a name that none of them has, or a value that cannot be.
    """
    of_features = {field.name for cls in classes.values() for field in fields(cls)}
    shared: dict[str, Any] = {}
    run: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {name: {} for name in classes}
    for name, value in settings.items():
        feature, dot, setting = name.partition(".")
        if name in RUN_SETTINGS:
            run[name] = value
        elif dot and feature in own:
            own[feature][setting] = value
        elif name in own and isinstance(value, Mapping):
            own[name].update(value)
        elif dot and feature not in of_features:
            raise SettingsError(unknown("feature of this run", feature, own))
        else:
            shared[name] = value
    for name in shared:
        having = [feature for feature, cls in classes.items() if name in names_of(cls)]
        if having and len(having) < len(classes):
            lacking = ", ".join(feature for feature in classes if feature not in having)
            raise SettingsError(
                f"{name} is no setting of {lacking}: give it to {' and '.join(having)} alone, "
                f"{having[0]}={{{name!r}: …}} (--{having[0]}.{name.replace('_', '-')})"
            )
    chosen = {
        name: from_mapping(cls, {**shared, **own[name]}, of=name, also=RUN_SETTINGS) for name, cls in classes.items()
    }
    return from_mapping(RunSettings, run, of="the run"), chosen
