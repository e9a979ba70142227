"""A frame and its time; what every source of frames offers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

RGB = npt.NDArray[np.uint8]


class Frame:
    """One picture and when it is shown.

    seconds, end_seconds: from when until when it is shown; the container's start is 0. Exact fractions.
    rgb: uint8 (H, W, 3). Converted on first use, so that a frame that nobody selects costs no conversion.
    """

    def __init__(self, seconds: Fraction, end_seconds: Fraction, to_rgb: Callable[[], RGB]) -> None:
        self.seconds = seconds
        self.end_seconds = end_seconds
        self._to_rgb: Callable[[], RGB] | None = to_rgb
        self._rgb: RGB | None = None

    @property
    def rgb(self) -> RGB:
        if self._to_rgb is not None:
            self._rgb = self._to_rgb()
            self._to_rgb = None  # and with it the decoder's buffer
        assert self._rgb is not None
        return self._rgb

    def shown(self, seconds: Fraction, end_seconds: Fraction) -> Frame:
        """The same picture at another time; converted once for both."""
        return Frame(seconds, end_seconds, lambda: self.rgb)


class FrameSource(Protocol):
    """A video, a folder of images or an array, opened; also a context manager that closes it.

    name: what the outputs are called after (a file's name without its ending)
    location: where it came from, as the user wrote it, for messages
    address: the same for the record: an absolute path, a URL, or the digest of an array
    fps: frames per second, on average
    """

    name: str
    location: str
    address: str
    fps: Fraction

    @property
    def start_seconds(self) -> Fraction:
        """When its first frame is shown, as the source states it before it is decoded; the container's start is 0."""

    @property
    def end_seconds(self) -> Fraction | None:
        """When its last frame ends, as the source states it before it is decoded; None where it does not say."""

    @property
    def size_bytes(self) -> int | None:
        """Size of the file; None where there is no file."""

    @property
    def is_length_stated(self) -> bool:
        """Whether the source itself says how many frames it has; else their number and its end are estimates."""

    def frame_count(self) -> int:
        """Frames in the source: as stated, else from duration and rate, else counted."""

    def frames(self) -> Iterator[Frame]:
        """Every frame once, in the order shown. Raises MediaError where decoding fails or ends too early."""

    def __enter__(self) -> FrameSource: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
