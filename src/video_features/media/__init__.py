"""From a path, a URL, a folder of images or an array to frames and sound with their times."""

from __future__ import annotations

import os
import re
import urllib.parse
import urllib.request
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MediaError, in_one_line
from .samples import RGB, Frame, Sound
from .source import FrameTrack, MediaSource, SoundTrack, Track, frames_of

__all__ = [
    "RGB",
    "Frame",
    "FrameTrack",
    "MediaSource",
    "Sound",
    "SoundTrack",
    "Source",
    "Track",
    "frames_of",
    "open_source",
]

Source = str | PathLike[str] | npt.NDArray[np.uint8]


def open_source(source: Source, *, fps: float | None = None, array_name: str = "array") -> MediaSource:
    """Open what frames and sound come from; close it by `with`.

    source: path of a file of video or sound, or of a folder of images; a URL (`file://`, or what fsspec knows:
        `https://`, `s3://` …); or an array uint8 (T, H, W, 3), RGB
    fps: the rate of a folder of images or an array, which have none of their own; not used for videos
    array_name: what an array is called, there being no file
    Raises MediaError, naming the source, if there is nothing to read or no rate to read it at.
    """
    from .stills import FrameArray, ImageFolder

    if isinstance(source, np.ndarray):
        return FrameArray(source, fps=fps, name=array_name)
    if not isinstance(source, (str, os.PathLike)):
        raise MediaError(f"expected a path, a URL or frames as a NumPy array, found {type(source).__name__}")
    location = os.fspath(source)
    if URL.match(location) and not location.lower().startswith("file:"):
        return _open_url(location)
    path = Path(_path_of(location) if URL.match(location) else location)
    if path.is_dir():
        return ImageFolder(path, fps=fps, location=location)
    return _open_file(path, location)


URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def _path_of(file_url: str) -> str:
    parts = urllib.parse.urlsplit(file_url)
    host = "" if parts.netloc in ("", "localhost") else f"//{parts.netloc}"  # a share of Windows
    return urllib.request.url2pathname(host + parts.path)


def _open_file(path: Path, location: str) -> MediaSource:
    from .container import MediaFile

    try:
        size = path.stat().st_size
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise MediaError(f"{location}: {reason}") from None
    if size == 0:
        raise MediaError(f"{location}: an empty file")
    # `file:` keeps FFmpeg from taking a colon in the name for a protocol.
    return MediaFile(f"file:{path}", name=path.stem, location=location, address=str(path.resolve()), size_bytes=size)


def _open_url(url: str) -> MediaSource:
    from .container import MediaFile

    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MediaError(f"{url}: reading a URL needs the extra: pip install 'video_features[remote]'") from None
    try:
        store, path = url_to_fs(url)
        file: Any = store.open(path, "rb")
    except Exception as error:  # each store raises its own kinds
        raise MediaError(f"{url}: cannot be opened ({type(error).__name__}: {in_one_line(error)})") from error
    parts = urllib.parse.urlsplit(url)
    name = PurePosixPath(urllib.parse.unquote(parts.path)).stem
    address = parts._replace(query="", fragment="").geturl()  # a signature changes, and is nobody else's business
    try:
        return MediaFile(file, name=name, location=url, address=address, size_bytes=getattr(file, "size", None))
    except MediaError:
        file.close()
        raise
