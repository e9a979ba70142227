"""Read lists of videos from files: one path per line, or a CSV with parts of videos."""

from __future__ import annotations

import csv
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TextIO

from ..errors import SettingsError
from .videos import Video

log = logging.getLogger(__name__)

# Unknown columns that are probably misnamed. Ignoring them would extract whole videos, or change the outputs' names.
RESEMBLES_COLUMN = re.compile("start|begin|from|end|stop|until|time|sec|path|file|video|name|id$|^to$", re.IGNORECASE)
COLUMNS = ("path", "start_seconds", "end_seconds", "id")


def read_list(file: str) -> list[Video]:
    """Read videos from a text file, one path per line, or a CSV with the columns path, start_seconds, end_seconds, id.

    file: path of the list; `-` is standard input
    Raises SettingsError if the list cannot be read; the message names the line.
    """
    return list(each_listed(file))


def each_listed(file: str) -> Iterator[Video]:
    """Yield the videos of `read_list` one at a time, while the file is being read."""
    try:
        with _opened(file) as opened:
            lines = _checked(file, opened)
            first = next((line for line in lines if line.strip()), None)
            if first is None:
                raise SettingsError(f"file_with_video_paths={file}: the list is empty")
            header = [column.strip() for column in first.split(",")]
            lines = chain([first], lines)
            if Path(file).suffix.lower() == ".csv" or ("path" in header and len(header) > 1):
                yield from _each_of_csv(file, lines)
            else:
                yield from (Video(path) for line in lines if (path := line.strip()))
    except OSError as error:
        raise SettingsError(f"file_with_video_paths={file}: cannot be read ({error.strerror})") from None


def _opened(file: str) -> AbstractContextManager[TextIO]:
    return nullcontext(sys.stdin) if file == "-" else Path(file).open(encoding="utf-8-sig", errors="surrogateescape")


def _checked(file: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise SettingsError(
                f"file_with_video_paths={file}: not a text file; is it a video? Give videos without this option"
            )
        yield line


def _each_of_csv(file: str, lines: Iterator[str]) -> Iterator[Video]:
    rows = csv.DictReader(lines, skipinitialspace=True, strict=True)
    columns = [column.strip() for column in rows.fieldnames or ()]
    if "path" not in columns:
        raise SettingsError(
            f"{file}: expected a header line with the columns {','.join(COLUMNS)}; found no column called path"
        )
    rows.fieldnames = columns
    unknown = [column for column in columns if column not in COLUMNS]
    if misnamed := [column for column in unknown if RESEMBLES_COLUMN.search(column)]:
        raise SettingsError(
            f"{file}: unknown column{'s' * (len(misnamed) > 1)} {', '.join(misnamed)}; rename or remove "
            f"{'them' if len(misnamed) > 1 else 'it'} (known columns: {', '.join(COLUMNS)})"
        )
    if unknown:
        log.warning("%s: ignoring unknown columns: %s (known: %s)", file, ", ".join(unknown), ", ".join(COLUMNS))
    try:
        for row in rows:
            where = f"{file}, line {rows.line_num}"
            if any((value or "").strip() for value in row.values() if isinstance(value, str)):
                yield _from_row(row, where)
    except csv.Error as error:
        raise SettingsError(f"{file}, line {rows.line_num}: invalid CSV ({error})") from None


def _from_row(row: dict[str, str | None], where: str) -> Video:
    cells = {column: (row.get(column) or "").strip() for column in COLUMNS}
    if not cells["path"]:
        raise SettingsError(f"{where}: the path is empty")
    seconds: dict[str, float | None] = {}
    for column in ("start_seconds", "end_seconds"):
        try:
            seconds[column] = float(cells[column]) if cells[column] else None
        except ValueError:
            raise SettingsError(f"{where}: {column} must be a number of seconds, got {cells[column]!r}") from None
    try:
        return Video(cells["path"], id=cells["id"] or None, **seconds)
    except SettingsError as error:
        raise SettingsError(f"{where}: {error}") from None
