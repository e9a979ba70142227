"""Reads timestamped frames and sound from paths, URLs, image folders and arrays."""

from .identity import Identity, Source, identify
from .open import open_source
from .source import (
    RGB,
    Frame,
    FrameTrack,
    MediaSource,
    ReadOptions,
    Sound,
    SoundTrack,
    Track,
    Wants,
    frames_of,
    samples_of,
)

__all__ = [
    "RGB",
    "Frame",
    "FrameTrack",
    "Identity",
    "MediaSource",
    "ReadOptions",
    "Sound",
    "SoundTrack",
    "Source",
    "Track",
    "Wants",
    "frames_of",
    "identify",
    "open_source",
    "samples_of",
]
