"""Opens a source of frames and sound: a file, a URL, an image folder or an array."""

from __future__ import annotations

import os
from typing import IO

import numpy as np

from ..errors import MediaError
from ..locations import is_remote, local_path
from ..timeline.segments import Segment
from .identity import Identity, Source, identify
from .remote import open_remote
from .source import MediaSource, Warnings


def open_source(
    source: Source,
    *,
    fps: float | None = None,
    array_name: str = "array",
    identity: Identity | None = None,
    segment: Segment | None = None,
) -> MediaSource:
    """Open a source of frames and sound. Use it in a `with` statement, which closes it.

    source: the path of a video or audio file or of an image folder; a URL (`file://`, or a scheme that fsspec supports,
        such as `https://` or `s3://`); or an RGB array, uint8 (T, H, W, 3)
    fps: frames per second of an image folder or an array, which have no rate of their own; ignored for other sources
    array_name: the name of an array, as an array has no file name
    identity: the result of `identify` for this source, if it is already known
    segment: the part to read, by default the whole source; see `MediaSource.samples`
    Raises MediaError, which names the source, if the source cannot be read or has no frame rate.
    """
    identity = identity or identify(source, array_name=array_name)
    if identity.is_stills:
        from .formats.stills import FrameArray, ImageFolder

        if isinstance(source, np.ndarray):
            return FrameArray(source, identity, fps=fps, segment=segment)
        return ImageFolder(identity, fps=fps, segment=segment)
    assert not isinstance(source, np.ndarray), "an array has no file"
    location = os.fspath(source)
    if not is_remote(location):
        # Without the prefix `file:`, FFmpeg would take the part before a colon in the name for a protocol.
        return _open_file(f"file:{local_path(location)}", identity, segment)
    file = open_remote(location)
    try:
        return _open_file(file, identity, segment)
    except MediaError:
        file.close()
        raise


def _open_file(file: str | IO[bytes], identity: Identity, segment: Segment | None) -> MediaSource:
    """Open a file with FFmpeg or, if FFmpeg would show only a part of it, with Pillow."""
    # Deferred, because these import the FFmpeg libraries, and the last one Pillow.
    from .file import MediaFile
    from .formats.wav import repaired
    from .streams import needs_pillow

    warnings = Warnings(identity.location)
    opened = MediaFile(repaired(file, identity, warnings), identity, segment, warnings)
    if not needs_pillow(opened.container):
        return opened
    from .formats.animation import open_with_pillow

    return open_with_pillow(opened.container, identity, segment)
