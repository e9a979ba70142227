"""Splits the given settings into run settings and settings of each feature, typed and checked."""

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
    """Return the run's settings, and {feature: settings}.

    classes: {feature: settings class}
    settings: `name: value` for the run or for all features; `feature.name: value` or `feature: {name: value}` for a
        single feature
    Raises SettingsError for an unknown name or an invalid value.
    """
    feature_settings = {field.name for cls in classes.values() for field in fields(cls)}
    shared: dict[str, Any] = {}
    run: dict[str, Any] = {}
    per_feature: dict[str, dict[str, Any]] = {name: {} for name in classes}
    for name, value in settings.items():
        feature, dot, setting = name.partition(".")
        if name in RUN_SETTINGS:
            run[name] = value
        elif dot and feature in per_feature:
            per_feature[feature][setting] = value
        elif name in per_feature and isinstance(value, Mapping):
            per_feature[name].update(value)
        elif dot and feature not in feature_settings:
            raise SettingsError(unknown("feature of this run", feature, per_feature))
        else:
            shared[name] = value
    for name in shared:
        supporting = [feature for feature, cls in classes.items() if name in names_of(cls)]
        if supporting and len(supporting) < len(classes):
            unsupported = ", ".join(feature for feature in classes if feature not in supporting)
            raise SettingsError(
                f"{name} is not a setting of {unsupported}: set it for {' and '.join(supporting)} only, with "
                f"{supporting[0]}={{{name!r}: …}} (--{supporting[0]}.{name.replace('_', '-')})"
            )
    features = {
        name: from_mapping(cls, {**shared, **per_feature[name]}, of=name, also=RUN_SETTINGS)
        for name, cls in classes.items()
    }
    return from_mapping(RunSettings, run, of="the run"), features
