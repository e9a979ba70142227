"""Parses `key=value` words and configuration files as the reference tool does, with OmegaConf's rules.

A value is YAML: null, a list or a string. Any other value stays the text that was typed; `settings.parse` converts it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from ..errors import SettingsError, in_one_line
from ..locations import why_not_a_file
from ..settings.parse import check_not_empty

CONFIG = "config"


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Return {key: value} of the words, and of the file of `config=FILE` for keys that no word names.

    Raises SettingsError, with the corrected command line if the words are options such as `--key value`.
    """
    if any(word.startswith("-") for word in words):
        raise SettingsError(
            f"expected key=value, found {next(word for word in words if word.startswith('-'))!r}: "
            f"write {' '.join(shlex.quote(word) for word in _without_dashes(words))}"
        )
    given: dict[str, Any] = {}
    for key, value in map(_pair, words):
        if key in given:
            click.echo(f"Warning: {key} is given more than once; {key}={value} is used", err=True)
        given[key] = _value(key, value)
    file = given.pop(CONFIG, None)
    return {**({} if file is None else read_config(str(file))), **given}


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key.strip():
        example = f"write {key}=VALUE; " if key.isidentifier() else ""
        raise SettingsError(f'expected key=value, found {word!r} ({example}quote a word with spaces: "key=a b")')
    return key, value


def _value(key: str, text: str) -> Any:
    try:
        read = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date such as 2026-99-99
        read = text
    check_not_empty(key, "" if read == "" else text)
    return read if read is None or isinstance(read, (list, str)) else text


def _without_dashes(words: Iterable[str]) -> Iterator[str]:
    """Yield `key=value` for `--key value`, `--key=value` and `--key`, and the other words as they are."""
    key, values = "", list[str]()
    for word in (*words, "--"):
        if key and not word.startswith("-") and "=" not in word:
            values.append(word)
            continue
        if key:
            listed = ", ".join(values) or "true"
            yield f"{key}=[{listed}]" if len(values) > 1 else f"{key}={listed}"
        name, equals, value = word.lstrip("-").partition("=")
        key, values = "", []
        if not word.startswith("-"):
            yield word
        elif equals:
            yield f"{name.replace('-', '_')}={value}"
        else:
            key = name.replace("-", "_")


def read_config(file: str) -> dict[str, Any]:
    """Read {key: value} from a YAML file. A mapping below a key gives its parts: `weights: {rgb: a.pt}` is weights.rgb.

    Raises SettingsError, which names the file.
    """
    where = f"{CONFIG}={file}"
    if reason := why_not_a_file(path := Path(file).expanduser()):
        raise SettingsError(f"{where}: {reason}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        root, read = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text file in UTF-8"
        raise SettingsError(f"{where}: cannot be read ({reason})") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        raise SettingsError(f"{where}: not a YAML file ({in_one_line(error)})") from None
    if read is None:
        return {}
    if not isinstance(read, dict) or not isinstance(root, yaml.MappingNode):
        raise SettingsError(f"{where}: expected lines of key: value, found {in_one_line(ValueError(read))[:60]!r}")
    keys = [str(key.value) for key, _ in root.value]
    if repeated := [key for index, key in enumerate(keys) if key in keys[:index]]:
        raise SettingsError(f"{where}: {repeated[0]} is given more than once")
    if read.pop(CONFIG, None) is not None:
        raise SettingsError(f"{where}: a file that names another {CONFIG} is not supported")
    return dict(_flattened(read, where))


def _flattened(read: dict[Any, Any], where: str) -> Iterator[tuple[str, Any]]:
    for key, value in read.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{part}", inner) for part, inner in _flattened(value, where))
        else:
            if isinstance(value, str):
                check_not_empty(f"{where}: {key}", value)
            yield str(key), value
