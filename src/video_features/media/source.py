"""Frames and pieces of sound with their times, and what every source of them offers: tracks, and one pass over them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import MediaError
from ..timeline.segments import Segment
from .identity import Identity

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


# Whether a frame would be taken that is shown from until when, in seconds, or one of several that are.
Wants = Callable[[Fraction, Fraction], bool]


@dataclass(frozen=True)
class TrackRecord:
    """What a record states of a track: fps of frames; sample_rate (Hz) and channels of sound."""

    fps: float | None = None
    sample_rate: int | None = None
    channels: int | None = None


class Track(Protocol):
    """The frames of a source, or its sound: what can be told of them before they are read."""

    @property
    def start_seconds(self) -> Fraction:
        """When it starts, as the source states it before it is decoded; the container's start is 0."""

    @property
    def end_seconds(self) -> Fraction | None:
        """When it ends, as the source states it before it is decoded; None where it does not say."""

    @property
    def is_length_stated(self) -> bool:
        """Whether the source itself says how long it is; else its end is an estimate."""

    def describe(self) -> TrackRecord:
        """What a record states of it."""


class FrameTrack(Track, Protocol):
    """The frames of a source.

    fps: frames per second, on average
    """

    fps: Fraction

    def frame_count(self) -> int:
        """How many there are: as stated, else from duration and rate, else counted."""


class SoundTrack(Track, Protocol):
    """The sound of a source."""

    def duration(self) -> Fraction:
        """How many seconds it lasts: as stated, else it is decoded for that."""


class MediaSource(Protocol):
    """A file of video or sound, a folder of images or an array, opened; also a context manager that closes it.

    identity: which one it is
    location: where it came from, as the user wrote it, for messages
    segment: the part that is wanted of it; None: the whole
    """

    identity: Identity
    location: str
    segment: Segment | None

    @property
    def video(self) -> FrameTrack:
        """Its frames. Raises MediaError where it has none, with what it has."""

    @property
    def audio(self) -> SoundTrack:
        """Its sound. Raises MediaError where it has none, with what it has."""

    def samples(
        self, tracks: Collection[Track], wants: Wants | None = None
    ) -> Iterator[tuple[Track, Frame | Sound | MediaError]]:
        """Every frame and every piece of sound of these tracks, each track's in the order of their times; instead of
        the rest of a track that cannot be decoded, or ends too early, a MediaError. A source is read so once.

        Of a segment comes at the latest what is shown, or heard, at its start, and what follows as in the whole: who
        reads takes what lies in it, and the track out of `tracks` when it is over.

        tracks: those that are taken out of it meanwhile are decoded no further
        wants: which frames are taken, where that is known; the others may have no picture, and several that follow one
            another come as one
        """

    def __enter__(self) -> MediaSource: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def frames_of(source: MediaSource) -> Iterator[Frame]:
    """Every frame of a source once, in the order shown. Raises MediaError where decoding fails or ends too early."""
    return samples_of(source, source.video)


def samples_of(source: MediaSource, track: Track) -> Iterator[Any]:
    """Every frame or piece of sound of one track. Raises MediaError where decoding fails or ends too early."""
    for _, sample in source.samples([track]):
        if isinstance(sample, MediaError):
            raise sample
        yield sample
