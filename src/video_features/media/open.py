"""Opens whatever frames and sound come from."""

from __future__ import annotations

import numpy as np

from ..errors import MediaError
from ..locations import is_remote, local_path
from ..timeline.segments import Segment
from .identity import Identity, Source, identify, open_remote
from .source import MediaSource


def open_source(
    source: Source,
    *,
    fps: float | None = None,
    array_name: str = "array",
    identity: Identity | None = None,
    segment: Segment | None = None,
) -> MediaSource:
    """Open what frames and sound come from; close it by `with`.

    source: path of a file of video or sound, or of a folder of images; a URL (`file://`, or what fsspec knows:
        `https://`, `s3://` …); or an array uint8 (T, H, W, 3), RGB
    fps: the rate of a folder of images or an array, which have none of their own; not used for videos
    array_name: what an array is called, there being no file
    identity: what `identify` says of the source, where that is known already
    segment: the part that is wanted of it, by default the whole; see `MediaSource.samples`
    Raises MediaError, naming the source, if there is nothing to read or no rate to read it at.
    """
    identity = identity or identify(source, array_name=array_name)
    if identity.is_stills:
        from .stills import FrameArray, ImageFolder

        if isinstance(source, np.ndarray):
            return FrameArray(source, identity, fps=fps, segment=segment)
        return ImageFolder(identity, fps=fps, segment=segment)
    from .file import MediaFile  # which imports FFmpeg's libraries

    if not is_remote(identity.location):
        # `file:` keeps FFmpeg from taking a colon in the name for a protocol.
        return MediaFile(f"file:{local_path(identity.location)}", identity, segment)
    file = open_remote(identity.location)
    try:
        return MediaFile(file, identity, segment)
    except MediaError:
        file.close()
        raise
