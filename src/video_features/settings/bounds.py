"""Bounds of the numbers that a user can give."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from ..errors import SettingsError, abbreviated


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The smallest and the largest value of a number. Generous: they only stop values that no video can fill.

    why: the reason for the bounds, for the error
    """

    minimum: float
    maximum: float
    why: str


# Below, the exact fraction of a rate would be 0. Above, the fastest cameras have fewer pictures per second.
FPS = Bounds(0.00001, 10_000, "from one frame a day to the rate of high-speed cameras")
# More frames than 11 hours have at 25 fps. A shorter video would repeat its pictures for hours.
TOTAL = Bounds(1, 1_000_000, "a million frames are 11 hours at 25 fps; leave it out to take every frame")
# A batch waits in memory until it is full.
BATCH = Bounds(1, 65_536, "the rows of a batch are held in memory together")
# More frames than an hour has at 25 fps, held in memory together. `memory_limit` usually allows far fewer.
STACK = Bounds(1, 100_000, "the frames of a clip are held in memory together")
# Four days at 25 fps. Longer steps give one row per video, as this step does.
STEP = Bounds(1, 10_000_000, "ten million frames are four days at 25 fps")


def bounds_of(cls: type, name: str) -> Bounds | None:
    """Return the bounds of a setting of the class `cls`, or those of the setting that it declares again."""
    for base in cls.__mro__:
        field = base.__dict__.get("__dataclass_fields__", {}).get(name)
        if field is not None and (bounds := field.metadata.get("bounds")) is not None:
            return typing.cast(Bounds, bounds)
    return None


def check_bounds(settings: Any) -> None:
    """Raise SettingsError if a number is outside its bounds."""
    for field in dataclasses.fields(settings):
        value, bounds = getattr(settings, field.name), bounds_of(type(settings), field.name)
        if value is None or bounds is None or bounds.minimum <= value <= bounds.maximum:
            continue
        if value <= 0 and bounds.minimum == 1:
            raise SettingsError(f"{field.name} must be greater than 0, got {abbreviated(value)}")
        limit = f"at most {_plain(bounds.maximum)}" if value > bounds.maximum else f"at least {_plain(bounds.minimum)}"
        raise SettingsError(f"{field.name} must be {limit}, got {abbreviated(value)} ({bounds.why})")


def _plain(number: float) -> str:
    return f"{number:f}".rstrip("0").rstrip(".")
