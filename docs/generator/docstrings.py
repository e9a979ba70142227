"""Griffe's extension for this project's docstrings, so that mkdocstrings shows their lists as tables.

Lines `name: text` with the names of parameters or of attributes become a section of Google's style. A line that begins
with `Raises` or `Returns` begins a paragraph.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"(\w+(?:, \w+)*): (.+)")


class ListedNames(griffe.Extension):
    """Rewrites the docstrings of functions and classes."""

    def on_function_instance(self, *, func: griffe.Function, **kwargs: Any) -> None:
        _rewrite(func, {parameter.name.lstrip("*") for parameter in func.parameters}, "Args")

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        _rewrite(cls, set(cls.members), "Attributes")


def _rewrite(documented: griffe.Object, known: set[str], title: str) -> None:
    if documented.docstring is not None:
        paragraphs = re.split(r"\n\n|\n(?=Raises |Returns )", documented.docstring.value)
        documented.docstring.value = "\n\n".join(_section(paragraph, known, title) for paragraph in paragraphs)


def _section(paragraph: str, known: set[str], title: str) -> str:
    entries = _entries(paragraph)
    if not entries or not {name for names, _ in entries for name in names} <= known:
        return paragraph
    return "\n".join([f"{title}:", *(f"    {name}: {text}" for names, text in entries for name in names)])


def _entries(paragraph: str) -> list[tuple[list[str], str]]:
    """Return the entries of a list of names, or nothing if the paragraph is no such list."""
    entries: list[tuple[list[str], str]] = []
    for line in paragraph.split("\n"):
        found = ENTRY.fullmatch(line)
        if found is not None:
            entries.append((found[1].split(", "), found[2]))
        elif entries and line.startswith("    "):
            names, text = entries[-1]
            entries[-1] = names, f"{text} {line.strip()}"
        else:
            return []
    return entries
