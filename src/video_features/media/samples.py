"""What sources are read as: frames, and pieces of sound, with their times."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

RGB = npt.NDArray[np.uint8]


class Frame:
    """One picture and when it is shown.

    seconds, end_seconds: from when until when it is shown; the container's start is 0. Exact fractions.
    rgb: uint8 (H, W, 3). Converted on first use, in whichever thread that is, so that a frame that nobody selects costs
        no conversion.
    """

    def __init__(self, seconds: Fraction, end_seconds: Fraction, to_rgb: Callable[[], RGB]) -> None:
        self.seconds = seconds
        self.end_seconds = end_seconds
        self._to_rgb: Callable[[], RGB] | None = to_rgb
        self._rgb: RGB | None = None
        self._converting = threading.Lock()

    @property
    def rgb(self) -> RGB:
        with self._converting:
            if self._to_rgb is not None:
                self._rgb = self._to_rgb()
                self._to_rgb = None  # and with it the decoder's buffer
        assert self._rgb is not None
        return self._rgb

    def shown(self, seconds: Fraction, end_seconds: Fraction) -> Frame:
        """The same picture at another time; converted once for both."""
        return Frame(seconds, end_seconds, lambda: self.rgb)


@dataclass(frozen=True)
class Sound:
    """A piece of sound.

    seconds, end_seconds: from when until when it is heard; the container's start is 0
    rate: samples per second, Hz
    samples: int16 (n, channels)
    """

    seconds: Fraction
    end_seconds: Fraction
    rate: int
    samples: npt.NDArray[np.int16]
