"""Which video a source is, told without opening it: what its outputs are called after, and what shows a change."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import urllib.parse
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MediaError, in_one_line, with_kind
from ..locations import WITHOUT_LISTS, is_remote, local_path, store_of

Source = str | PathLike[str] | npt.NDArray[np.uint8]

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
KINDS = {  # what else a path may lead to; some of these are read without an end, or until somebody writes to them
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


@dataclass(frozen=True)
class Identity:
    """A source as it is now.

    name: what the outputs are called after (a file's name without its ending)
    location: where it came from, as the user wrote it, for messages
    address: the same for the record: an absolute path, a URL, or the digest of an array
    size_bytes: of the file, all images, or the array; None where nobody says
    modified_ns: when the file, or the newest image, was written, in nanoseconds since 1970; None where nobody says
    is_stills: whether its rate is given and not its own
    """

    name: str
    location: str
    address: str
    size_bytes: int | None = None
    modified_ns: int | None = None
    is_stills: bool = False


def identify(source: Source, *, array_name: str = "array") -> Identity:
    """Which video a source is, see `open_source` for what it may be. Of a file nothing is read, of an array all.

    Raises MediaError, naming the source, if there is nothing of the kind that can be read.
    """
    if isinstance(source, np.ndarray):
        _check_array(source, array_name)
        digest = hashlib.sha256(np.ascontiguousarray(source).data).hexdigest()
        return Identity(array_name, array_name, f"array sha256:{digest}", source.nbytes, is_stills=True)
    if not isinstance(source, (str, os.PathLike)):
        raise MediaError(f"expected a path, a URL or frames as a NumPy array, found {type(source).__name__}")
    location = os.fspath(source)
    if is_remote(location):
        return _identify_remote(location)
    path = local_path(location)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            return _identify_folder(path, location)
        absolute = path.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise MediaError(f"{location}: {_why_not_there(path, error)}") from None
    for is_of_kind, kind in KINDS.items():
        if is_of_kind(found.st_mode):
            raise MediaError(f"{location}: expected a file, and it is {kind}")
    if found.st_size == 0:
        raise MediaError(f"{location}: an empty file")
    return Identity(path.stem, location, str(absolute), found.st_size, found.st_mtime_ns)


def images_of(folder: Path, location: str) -> list[Path]:
    """The images of a folder in natural order. Raises MediaError where there are none."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not images:
        raise MediaError(
            f"{location}: a folder with no images in it (for the videos or sounds in it, give a pattern, as in "
            "--pattern '*.mp4')"
        )
    return sorted(images, key=_natural_key)


def _check_array(rgb: npt.NDArray[Any], name: str) -> None:
    """Raise MediaError where an array is not frames, uint8 (T, H, W, 3)."""
    if rgb.ndim != 4 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8 or len(rgb) == 0:
        raise MediaError(f"{name}: expected frames as uint8 (T, H, W, 3) with T ≥ 1, found {rgb.dtype} {rgb.shape}")


def open_remote(url: str) -> Any:
    """A URL as a binary file that fsspec reads. Raises MediaError."""
    store, path = store_of(url, error=MediaError)
    try:
        return store.open(path, "rb")
    except Exception as error:  # each store raises its own kinds
        raise MediaError(f"{url}: cannot be opened ({with_kind(error)})") from error


def _identify_remote(url: str) -> Identity:
    with open_remote(url) as file:
        size = getattr(file, "size", None)
    if not url.lower().startswith(WITHOUT_LISTS):  # a `?` or `#` is of the name
        return Identity(PurePosixPath(url).stem, url, url, size)
    parts = urllib.parse.urlsplit(url)
    name = PurePosixPath(urllib.parse.unquote(parts.path)).stem
    address = parts._replace(query="", fragment="").geturl()  # a signature changes, and is nobody else's business
    return Identity(name, url, address, size)


def _identify_folder(folder: Path, location: str) -> Identity:
    images, absolute = images_of(folder, location), folder.resolve()
    found = [path.stat() for path in images]
    return Identity(
        absolute.name,
        str(folder),
        str(absolute),
        sum(one.st_size for one in found),
        max(one.st_mtime_ns for one in found),
        is_stills=True,
    )


def _natural_key(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _why_not_there(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "a link to a file that is not there" if path.is_symlink() else "no such file"
    return getattr(error, "strerror", None) or in_one_line(error)
