"""Read lists of videos from files: one path per line, or a CSV with parts of videos.

A list is UTF-8, or UTF-16 or UTF-32 with a byte order mark, as PowerShell writes it. A line that is not UTF-8 is
the raw name of a file, as Linux allows it, or is read as Windows-1252 if that is the name of a file.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TextIO

from ..errors import SettingsError, printable
from ..locations import EMPTY_PATH, NOT_UTF8, local_path
from .videos import Video

log = logging.getLogger(__name__)

# Unknown columns that are probably misnamed. Ignoring them would extract whole videos, or change the outputs' names.
RESEMBLES_COLUMN = re.compile("start|begin|from|end|stop|until|time|sec|path|file|video|name|id$|^to$", re.IGNORECASE)
COLUMNS = ("path", "start_seconds", "end_seconds", "id")
# UTF-32 first: its mark begins with that of UTF-16.
ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_list(file: str) -> list[Video]:
    """Read videos from a text file, one path per line, or a CSV with the columns path, start_seconds, end_seconds, id.

    file: path of the list; `-` is standard input
    Raises SettingsError if the list cannot be read; the message names the line.
    """
    return list(each_listed(file))


def each_listed(file: str) -> Iterator[Video]:
    """Yield the videos of `read_list` one at a time, while the file is being read."""
    if not file.strip():
        raise SettingsError(f"file_with_video_paths: {EMPTY_PATH}")
    has_warned = False
    try:
        for video in _each(file):
            found = _decoded(video)
            if found is not video and not has_warned:
                log.warning("%s: not UTF-8, read as Windows-1252: %s …", printable(file), printable(found.path))
                has_warned = True
            yield found
    except UnicodeError as error:
        raise SettingsError(f"file_with_video_paths={file}: not valid text ({error}); save the list as UTF-8") from None


def _each(file: str) -> Iterator[Video]:
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
    if file == "-":
        buffer = getattr(sys.stdin, "buffer", None)
        return nullcontext(sys.stdin if buffer is None else _as_text(buffer))
    return _as_text(Path(file).open("rb"))


def _as_text(file: io.BufferedReader) -> TextIO:
    """The text of a file, in the encoding that its byte order mark tells, otherwise in UTF-8."""
    start = file.peek(4)
    encoding = next((name for mark, name in ENCODINGS.items() if start.startswith(mark)), "utf-8-sig")
    return io.TextIOWrapper(file, encoding, "surrogateescape" if encoding == "utf-8-sig" else "strict")


def _decoded(video: Video) -> Video:
    """The video, read as Windows-1252 if its line is not UTF-8 and only that names a file."""
    texts = [text for text in (video.path, video.id) if text is not None]
    if not any(map(NOT_UTF8.search, texts)) or (
        not NOT_UTF8.search(video.id or "") and local_path(video.path).exists()
    ):
        return video
    try:
        path, *name = (text.encode("utf-8", "surrogateescape").decode("cp1252") for text in texts)
        if local_path(path).exists():
            return replace(video, source=path, id=name[0] if name else None)
    except UnicodeDecodeError:  # five bytes have no meaning in Windows-1252
        pass
    return video


def _checked(file: str, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise SettingsError(
                f"file_with_video_paths={file}: not a text file; is it a video? Give videos without this option. "
                "A list in UTF-16 needs a byte order mark: save it as UTF-8"
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
