"""The demo: three real videos and two real networks, all from packages on PyPI, and one picture of what was found."""

from .run import MODEL, show
from .videos import packaged_video

__all__ = ["MODEL", "packaged_video", "show"]
