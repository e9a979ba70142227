"""Parses command-line strings and Python values into typed settings."""

from __future__ import annotations

import dataclasses
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

from ..errors import SettingsError, abbreviated
from ..locations import Location, location_of
from .declare import unknown

T = TypeVar("T")

MAX_EXPONENT = 400  # of a number as text; 1e999999999 would fill the memory with digits, and no float is that large


class Bytes(int):
    """A number of bytes; a user may write "4GB"."""


def coerce(name: str, value: Any, annotation: Any) -> Any:
    """Convert `value` to the annotated type: `"5"` → 5 for an int, `"null"` → None where None is allowed.

    name: the setting's name, for the error
    Raises SettingsError if the value cannot be converted.
    """
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    if isinstance(value, str):
        check_not_empty(name, value)
        if "\0" in value:
            raise SettingsError(f"{name} contains a NUL character, which no text or path may: {abbreviated(value)}")
    if value is None or (isinstance(value, str) and value.strip().lower() in ("null", "none")):
        if type(None) in options:
            return None
        raise SettingsError(f"{name} needs a value")
    target = Location if {Path, str} <= set(options) else next(option for option in options if option is not type(None))
    try:
        return _CONVERTERS[target](value)
    # RuntimeError: nobody has the home folder `~name`; or, as RecursionError, brackets are nested thousands deep.
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError):
        raise SettingsError(f"{name} must be {_DESCRIPTIONS[target]}, got {abbreviated(value)}") from None


def check_not_empty(name: str, value: str) -> None:
    """Raise SettingsError if a text is empty, which is more likely a mistake than a wish for the default."""
    if not value.strip():
        raise SettingsError(f"{name} is empty; was a shell variable unset? (null means: not set)")


def _to_int(value: Any) -> int:
    number = _to_fraction(value)
    if number.denominator != 1:
        raise ValueError
    return int(number)


def _to_float(value: Any) -> float:
    return float(_to_fraction(value))


def _to_fraction(value: Any) -> Fraction:
    """Convert a number or text, such as "0.5", "1e-3" or "30000/1001", as FFmpeg writes frame rates."""
    if isinstance(value, bool):
        raise ValueError
    text = str(value)
    exponent = re.search(r"e([-+]?[\d_]+)", text, re.IGNORECASE)
    if exponent is not None and abs(int(exponent[1])) > MAX_EXPONENT:
        raise OverflowError
    return Fraction(text)


def _to_bytes(value: Any) -> Bytes:
    found = re.fullmatch(r"(.*?)\s*([kmgt]?)(i?)(b?)", str(value).strip(), re.IGNORECASE)
    if found is not None and (found[2] or found[4]):  # 4G, 4GB or 4GiB
        number, prefix, binary, _ = found.groups()
        unit = (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " ")
        return Bytes(_to_fraction(number) * unit)
    return Bytes(_to_int(value))


def _to_bool(value: Any) -> bool:
    return _BOOLEANS[str(value).lower()]


_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _to_strings(value: Any) -> tuple[str, ...]:
    items = _yaml(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    strings = (items,) if isinstance(items, str) else tuple(str(item) for item in items)
    if not strings:
        raise ValueError
    return strings


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError from error


def _to_path(value: Any) -> Path:
    return Path(_path_text(value)).expanduser()


def _to_location(value: Any) -> Location:
    return location_of(_path_text(value))


def _path_text(value: Any) -> str:
    text: str = os.fspath(value)
    if b"\0" in os.fsencode(text):  # raises ValueError, too, for text that no path can have
        raise ValueError
    return text


_CONVERTERS: dict[Any, Any] = {
    Location: _to_location,
    Bytes: _to_bytes,
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
    str: str,
    Path: _to_path,
    tuple[str, ...]: _to_strings,
}
_DESCRIPTIONS: dict[Any, str] = {
    Location: "a folder or a URL",
    Bytes: "a number of bytes, such as 4GB or 500MB",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    tuple[str, ...]: 'a list, such as "[a dog, a cat]"',
}


def names_network(field: dataclasses.Field[Any]) -> bool:
    """Return whether the values of a setting are names of networks, such as those of `model_name`."""
    return field.name == "model_name" or bool(field.metadata.get("names_network"))


def network_setting(settings: Any) -> str | None:
    """Return the name of the setting that names a network; None if there is none. settings: or their class"""
    return next((field.name for field in dataclasses.fields(settings) if names_network(field)), None)


def network_name(settings: Any) -> str | None:
    """Return the name of the network that settings choose, or their class by default; None if there is no choice."""
    name = network_setting(settings)
    return None if name is None else typing.cast("str | None", getattr(settings, name))


def own_fields_first(cls: type[Any]) -> list[dataclasses.Field[Any]]:
    """Return the settings of a family: the settings that the family itself declares, then the inherited settings."""
    return sorted(dataclasses.fields(cls), key=lambda field: field.name not in cls.__annotations__)


def names_of(cls: type) -> list[str]:
    """Return every name that a user can set in the settings class `cls`: the fields, and `field.part`."""
    fields = dataclasses.fields(cls)
    return [*(field.name for field in fields), *(f"{field.name}.{part}" for field in fields for part in _parts(field))]


def _parts(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    parts: tuple[str, ...] = field.metadata["parts"]
    return parts


def from_mapping(cls: type[T], values: Mapping[str, Any], *, of: str, also: Iterable[str] = ()) -> T:
    """Build an instance of the settings class `cls` from names and values. Values may be command-line strings.

    of: the owner of the settings, for the error
    also: more names to suggest in the error
    Raises SettingsError for a name that `cls` does not have, or a value of the wrong type.
    """
    names, hints = names_of(cls), typing.get_type_hints(cls)
    with_parts = {
        field.name: field.metadata["main_part"]
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        if _parts(field)
    }
    given: dict[str, Any] = {}
    for name, value in _flattened(values, with_parts):
        if name not in names:
            raise SettingsError(unknown(f"setting of {of}", name, [*names, *also]))
        field, _, part = name.partition(".")
        if field not in with_parts:
            given[field] = coerce(name, value, hints[field])
        elif (path := coerce(name, value, Path | None)) is not None:
            files = given.setdefault(field, {})
            part = part or with_parts[field]
            if part in files or (files and "" in (part, *files)):
                raise SettingsError(f"{field} and {field}.{part or 'PART'} are mutually exclusive: give each file once")
            files[part] = path
    return cls(**given)


def _flattened(values: Mapping[str, Any], with_parts: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Flatten mappings of files: `weights={"rgb": a}` becomes `weights.rgb=a`."""
    for name, value in values.items():
        if name in with_parts and isinstance(value, Mapping):
            yield from ((f"{name}.{part}", file) for part, file in value.items())
        else:
            yield name, value
