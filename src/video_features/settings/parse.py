"""How a word from a command line, or a value from Python, becomes a setting's typed value."""

from __future__ import annotations

import types
import typing
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from ..errors import SettingsError
from ..locations import Location, location_of


def coerce(name: str, value: Any, annotation: Any) -> Any:
    """`value` as the annotated type: `"5"` → 5 for an int, `"null"` → None where None is allowed."""
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if value is None or (isinstance(value, str) and value.strip().lower() in ("null", "none", "")):
        if type(None) in options:
            return None
        raise SettingsError(f"{name} needs a value")
    target = Location if {Path, str} <= set(options) else next(one for one in options if one is not type(None))
    try:
        return _CONVERTERS[target](value)
    except (ValueError, TypeError, LookupError, ZeroDivisionError, yaml.YAMLError):
        raise SettingsError(f"{name} must be {_IN_WORDS[target]}, and is {value!r}") from None


def _to_int(value: Any) -> int:
    number = Fraction(str(value))
    if number.denominator != 1 or isinstance(value, bool):
        raise ValueError
    return int(number)


def _to_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float(Fraction(str(value)))  # also "30000/1001", as FFmpeg writes rates


def _to_bool(value: Any) -> bool:
    return _TRUTH[str(value).lower()]


_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _to_texts(value: Any) -> tuple[str, ...]:
    listed = yaml.safe_load(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    texts = (listed,) if isinstance(listed, str) else tuple(str(text) for text in listed)
    if not texts:
        raise ValueError
    return texts


def _to_path(value: Any) -> Path:
    return Path(value).expanduser()


_CONVERTERS: dict[Any, Any] = {
    Location: location_of,
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
    str: str,
    Path: _to_path,
    tuple[str, ...]: _to_texts,
}
_IN_WORDS: dict[Any, str] = {
    Location: "a folder or a URL",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a word",
    Path: "a path",
    tuple[str, ...]: 'a list of texts, such as "[a dog, a cat]"',
}
