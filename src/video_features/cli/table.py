"""Lays out a table that fits the terminal."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

GAP = "  "
NARROWEST = 8  # of a column that is cut: in fewer characters nothing can be recognised


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None = None) -> list[str]:
    """Return the lines of a table. The first column is never cut; the last ones are cut, or left out, if need be.

    columns: the width of the screen in characters; None for that of the terminal
    """
    wanted = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    left = (columns or shutil.get_terminal_size().columns) - wanted[0]
    widths = wanted[:1]
    for width in wanted[1:]:
        left -= len(GAP)
        if left < min(width, NARROWEST):
            break
        widths.append(min(width, left))
        left -= widths[-1]
    return [GAP.join(map(_cell, row, widths)).rstrip() for row in (heads, *rows)]


def _cell(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"
