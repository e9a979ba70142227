"""User settings: names, defaults, help texts and typed values."""

from ..errors import SettingsError
from .bounds import Bounds
from .declare import (
    ClipSettings,
    FeatureSettings,
    FrameSettings,
    PictureSettings,
    SoundSettings,
    check_known,
    check_positive,
    check_tail,
    setting,
    unknown,
)
from .run import RunSettings

__all__ = [
    "Bounds",
    "ClipSettings",
    "FeatureSettings",
    "FrameSettings",
    "PictureSettings",
    "RunSettings",
    "SettingsError",
    "SoundSettings",
    "check_known",
    "check_positive",
    "check_tail",
    "setting",
    "unknown",
]
