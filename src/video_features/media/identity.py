"""Identifies a source without decoding it: the name for its outputs, and the size and time that reveal a change."""

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

from ..errors import MediaError
from ..locations import (
    EMPTY_PATH,
    NOT_UTF8,
    WRONG_ENCODING,
    is_remote,
    is_web,
    is_withheld,
    local_path,
    shown,
    special_kind,
    why_missing,
)
from .remote import remote_size

Source = str | PathLike[str] | npt.NDArray[np.uint8]

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Identity:
    """The identity of a source, and its current version.

    name: the name for the outputs: the file name without its suffix, or the folder or array name
    location: the path or the array name as the user wrote it, or the URL without its secrets, for messages
    address: the location for the record: an absolute path, a URL without its secrets, or the digest of an array
    size_bytes: size of the file, of all images together, or of the array; None if unknown
    modified_ns: modification time of the file or of the newest image, in nanoseconds since 1970; None if unknown
    is_stills: True for an image folder or an array, which have no frame rate of their own
    """

    name: str
    location: str
    address: str
    size_bytes: int | None = None
    modified_ns: int | None = None
    is_stills: bool = False


def identify(source: Source, *, array_name: str = "array") -> Identity:
    """Return the identity of a source. See `open_source` for the possible sources.

    The content of a file is not read. The content of an array is hashed.
    Raises MediaError, which names the source, if the source does not exist or is not of a supported kind.
    """
    if isinstance(source, np.ndarray):
        _check_array(source, array_name)
        digest = hashlib.sha256(np.ascontiguousarray(source).data).hexdigest()
        return Identity(array_name, array_name, f"array sha256:{digest}", source.nbytes, is_stills=True)
    if not isinstance(source, (str, os.PathLike)):
        raise MediaError(f"expected a path, a URL or frames as a NumPy array, found {type(source).__name__}")
    location = os.fspath(source)
    if not location.strip():
        raise MediaError(EMPTY_PATH)
    if is_remote(location):
        return _identify_remote(location)
    path = local_path(location)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            return _identify_folder(path, location)
        absolute = path.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise MediaError(f"{location}: {why_missing(path, error)}") from None
    if kind := special_kind(found.st_mode):
        raise MediaError(f"{location}: expected a file, found {kind}")
    if found.st_size == 0:
        raise MediaError(f"{location}: an empty file")
    return Identity(path.stem, location, str(absolute), found.st_size, found.st_mtime_ns)


def images_of(folder: Path, location: str) -> list[Path]:
    """Return the images in a folder in natural order (2.jpg before 10.jpg). Raises MediaError if there are none."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if not images:
        raise MediaError(
            f"{location}: a folder with no images in it (for the videos or sounds in it, give a pattern, as in "
            "--pattern '*.mp4')"
        )
    return sorted(images, key=_natural_key)


def _check_array(rgb: npt.NDArray[Any], name: str) -> None:
    """Raise MediaError unless an array holds frames: uint8 (T, H, W, 3), T ≥ 1."""
    if rgb.ndim != 4 or rgb.shape[-1] != 3 or rgb.dtype != np.uint8 or len(rgb) == 0:
        raise MediaError(f"{name}: expected frames as uint8 (T, H, W, 3) with T ≥ 1, found {rgb.dtype} {rgb.shape}")


def _identify_remote(url: str) -> Identity:
    if NOT_UTF8.search(url):
        raise MediaError(f"{url}: {WRONG_ENCODING}")
    size = None if is_withheld(url) else remote_size(url)
    if not is_web(url):  # `?` and `#` are part of the name
        return Identity(PurePosixPath(url).stem, shown(url), shown(url), size)
    parts = urllib.parse.urlsplit(url)
    name = PurePosixPath(urllib.parse.unquote(parts.path)).stem
    # Without the query, which may hold a signature: signatures change, and are secret.
    address = shown(parts._replace(query="", fragment="").geturl())
    return Identity(name, shown(url), address, size)


def _identify_folder(folder: Path, location: str) -> Identity:
    images, absolute = images_of(folder, location), folder.resolve()
    stats = [path.stat() for path in images]
    return Identity(
        absolute.name,
        str(folder),
        str(absolute),
        sum(image.st_size for image in stats),
        max(image.st_mtime_ns for image in stats),
        is_stills=True,
    )


def _natural_key(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
