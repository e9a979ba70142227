"""Griffe's extension for this project's docstrings, so that mkdocstrings shows their lists as tables.

A paragraph whose lines are `name: text`, with the names of parameters or of attributes, becomes a section of Google's
style, and so do lines that begin with `Raises` or `Returns` and a name of a class.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"(\w+(?:, \w+)*): (.+)")


class ListedNames(griffe.Extension):
    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is None or obj.is_alias:
            return
        known = {parameter.name.lstrip("*") for parameter in getattr(obj, "parameters", ())}
        title = "Args"
        if obj.is_class:
            known, title = set(obj.members), "Attributes"
        paragraphs = obj.docstring.value.split("\n\n")
        obj.docstring.value = "\n\n".join(_section(paragraph, known, title) for paragraph in paragraphs)


def _section(paragraph: str, known: set[str], title: str) -> str:
    entries = _entries(paragraph)
    if entries and {name for names, _ in entries for name in names} <= known:
        lines = [f"    {name}: {text}" for names, text in entries for name in names]
        return "\n".join([f"{title}:", *lines])
    return re.sub(r"(?<!\n)\n(?=Raises |Returns )", "\n\n", paragraph)


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
