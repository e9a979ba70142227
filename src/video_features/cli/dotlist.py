"""Parses `key=value` words as the reference tool does, with OmegaConf's rules.

A value is YAML: null, a list or a string. Any other value stays the text that was typed; `settings.parse` converts it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
import yaml

from ..errors import SettingsError
from ..settings.config import read_config
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
    return {**({} if file is None else read_config(str(file), f"{CONFIG}={file}")), **given}


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
