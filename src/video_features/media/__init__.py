"""Reads timestamped frames and sound from paths, URLs, image folders and arrays."""

from .identity import Identity, Source, identify
from .open import open_source
from .source import RGB, Frame, FrameTrack, MediaSource, Sound, SoundTrack, Track, Wants, frames_of

__all__ = [
    "RGB",
    "Frame",
    "FrameTrack",
    "Identity",
    "MediaSource",
    "Sound",
    "SoundTrack",
    "Source",
    "Track",
    "Wants",
    "frames_of",
    "identify",
    "open_source",
]
