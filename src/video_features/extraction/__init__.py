"""Turns frames and sound into rows of features: sampling, preprocessing, batching and networks."""

from ..media import RGB
from ..timeline.windows import SoundWindow, Window
from .extractor import Extractor
from .networks import PointwiseHead, WithHead
from .streams import Stream, identity
from .transforms import Resize, as_clip, channels_first, from_pil, resize_bilinear, unit_range

__all__ = [
    "RGB",
    "Extractor",
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
