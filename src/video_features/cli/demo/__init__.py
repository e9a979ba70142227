"""The demo: three real videos and two real networks, all from packages on PyPI, and one picture of what was found."""

from .run import show
from .videos import packaged_video

__all__ = ["packaged_video", "show"]
