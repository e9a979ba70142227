"""Defines `Format`, the interface of file formats, and finds formats by name.

Formats are the modules of this folder, and modules that installed packages list in the entry point group
`video_features.formats`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ...errors import SettingsError, in_one_line
from ...settings import unknown

ENTRY_POINT_GROUP = "video_features.formats"
RECORD_SUFFIX = ".json"  # of the records beside the arrays, which no format may overwrite
PREFIX = "save_"  # on_extraction=save_NAME selects the format NAME


@dataclass(frozen=True)
class Format:
    """A file format for one array of any shape and dtype. The module of a format defines `FORMAT`.

    suffix: file name suffix, such as `.npy`
    dump: writes an array to an open binary file
    load: reads an array from an open binary file; raises an error of any type if the file is damaged
    is_npy: True if the files are `.npy` files, which can grow row by row and be read in parts
    """

    suffix: str
    dump: Callable[[npt.NDArray[Any], IO[bytes]], object]
    load: Callable[[IO[bytes]], npt.NDArray[np.generic]]
    is_npy: bool = False

    def __post_init__(self) -> None:
        if not self.suffix.startswith(".") or self.suffix == RECORD_SUFFIX:
            raise ValueError(f"suffix must start with a dot and not be {RECORD_SUFFIX}, got {self.suffix!r}")


@cache
def _modules() -> dict[str, str]:
    package = importlib.import_module(__package__)
    names = (module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))
    plugins = {point.name: point.module for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    return {**plugins, **{name: f"{__package__}.{name}" for name in names}}


def known_formats() -> list[str]:
    """Return every value of `on_extraction`."""
    return ["print", *(PREFIX + name for name in sorted(_modules()))]


def check_format(on_extraction: str | None) -> None:
    """Raise SettingsError unless `on_extraction` is None, `print` or the name of a format."""
    known = known_formats()
    if on_extraction is not None and on_extraction not in known:
        raise SettingsError(unknown("on_extraction", on_extraction, known))


def find_format(on_extraction: str) -> Format:
    """Return the format of `save_NAME`. Raises SettingsError if no such format exists or its module fails to import."""
    check_format(on_extraction)
    return _load(on_extraction.removeprefix(PREFIX))


def all_formats() -> list[Format]:
    """Return every format, except formats whose module cannot be imported."""
    formats = []
    for name in _modules():
        try:
            formats.append(_load(name))
        except SettingsError:
            continue
    return formats


def _load(name: str) -> Format:
    try:
        format: Format = importlib.import_module(_modules()[name]).FORMAT
    except Exception as error:
        raise SettingsError(f"on_extraction={PREFIX}{name}: cannot be imported ({in_one_line(error)})") from error
    return format
