"""From a path, a URL, a folder of images or an array to frames with their times."""

from __future__ import annotations

import re
import urllib.parse
import urllib.request
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MediaError, in_one_line
from ..windows import as_rate
from .frame import RGB, Frame, FrameSource

__all__ = ["RGB", "Frame", "FrameSource", "Source", "open_source"]

Source = str | PathLike[str] | npt.NDArray[np.uint8]


def open_source(source: Source, *, fps: float | None = None, array_name: str = "array") -> FrameSource:
    """Open what frames come from; close it by `with`.

    source: path of a video or of a folder of images, a URL (`file://`, or what fsspec knows: `https://`, `s3://` …),
        or an array uint8 (T, H, W, 3), RGB
    fps: the rate of a folder of images or an array, which have none of their own; not used for videos
    array_name: what an array is called, there being no file
    Raises MediaError, naming the source, if there is nothing to read or no rate to read it at.
    """
    from .stills import FrameArray, ImageFolder

    if isinstance(source, np.ndarray):
        return FrameArray(source, fps=as_rate(_given(fps, f"{array_name}: an array")), name=array_name)
    text = str(source)
    if _is_url(text):
        if not text.startswith("file:"):
            return _open_url(text)
        text = urllib.request.url2pathname(urllib.parse.urlsplit(text).path)
    path = Path(text)
    if path.is_dir():
        return ImageFolder(path, fps=as_rate(_given(fps, f"{path}: a folder of images")))
    return _open_file(path)


def _given(fps: float | None, what: str) -> float:
    if fps is None:
        raise MediaError(f"{what} has no frame rate of its own: give source_fps, such as 25")
    return fps


def _is_url(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def _open_file(path: Path) -> FrameSource:
    from .video import VideoFile

    try:
        size = path.stat().st_size
    except OSError as error:
        raise MediaError(
            f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error.strerror}"
        ) from None
    if size == 0:
        raise MediaError(f"{path}: an empty file")
    # `file:` keeps FFmpeg from taking a colon in the name for a protocol.
    return VideoFile(f"file:{path}", name=path.stem, location=str(path), address=str(path.absolute()), size_bytes=size)


def _open_url(url: str) -> FrameSource:
    from .video import VideoFile

    try:
        import fsspec
    except ImportError:
        raise MediaError(f"{url}: reading a URL needs the extra: pip install 'video_features[remote]'") from None
    try:
        file: Any = fsspec.open(url, "rb").open()
    except Exception as error:  # each store raises its own kinds
        raise MediaError(f"{url}: cannot be opened ({type(error).__name__}: {in_one_line(error)})") from error
    name = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).stem
    return VideoFile(file, name=name, location=url, address=url, size_bytes=getattr(file, "size", None))
