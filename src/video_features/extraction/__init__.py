"""Turns frames and sound into rows of features: sampling, preprocessing, batching and networks."""

from typing import TYPE_CHECKING, Any

from ..media import RGB
from ..timeline.windows import SoundWindow, Window
from .card import Card, Paper
from .extractor import Extractor
from .streams import Stream, identity
from .transforms import Resize, as_clip, channels_first, from_pil, resize_bilinear, unit_range

if TYPE_CHECKING:
    from ..networks.heads import PointwiseHead, WithHead

__all__ = [
    "RGB",
    "Card",
    "Extractor",
    "Paper",
    "PointwiseHead",
    "Resize",
    "SoundWindow",
    "Stream",
    "Window",
    "WithHead",
    "as_clip",
    "channels_first",
    "from_pil",
    "identity",
    "resize_bilinear",
    "unit_range",
]


def __getattr__(name: str) -> Any:  # these import PyTorch
    if name not in ("PointwiseHead", "WithHead"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..networks import heads

    return getattr(heads, name)
