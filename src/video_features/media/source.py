"""Defines timestamped frames and sound, and the interface of the sources that provide them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, fields
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import MediaError, printable
from ..timeline.segments import Segment
from .identity import Identity
from .timestamps import Shown

log = logging.getLogger(__name__)

RGB = npt.NDArray[np.uint8]


class Frame:
    """A video frame and the time at which it is shown.

    seconds, end_seconds: start and end of the time in which the frame is shown, as exact fractions; the container's
        start is 0
    is_merged: True if this stands for several consecutive frames that nobody needs, and has no picture
    rgb: uint8 (H, W, 3), converted on first use in the calling thread, so that an unused frame costs no conversion
    size: height and width in pixels as they are stored, to estimate the memory of a conversion; None if unknown
    """

    def __init__(
        self,
        seconds: Fraction,
        end_seconds: Fraction,
        to_rgb: Callable[[], RGB],
        size: tuple[int, int] | None = None,
        *,
        is_merged: bool = False,
    ) -> None:
        self.seconds = seconds
        self.end_seconds = end_seconds
        self.size = size
        self.is_merged = is_merged
        self._to_rgb: Callable[[], RGB] | None = to_rgb
        self._rgb: RGB | None = None
        self._lock = threading.Lock()

    @property
    def rgb(self) -> RGB:
        with self._lock:
            if self._to_rgb is not None:
                self._rgb = self._to_rgb()
                self._to_rgb = None  # release the decoder's buffer
        assert self._rgb is not None
        return self._rgb

    def shown(self, seconds: Fraction, end_seconds: Fraction) -> Frame:
        """Return the same picture, shown at another time. The RGB conversion is shared."""
        return Frame(seconds, end_seconds, lambda: self.rgb, self.size)


@dataclass(frozen=True)
class Sound:
    """A chunk of consecutive audio samples.

    seconds, end_seconds: start and end of the chunk, as exact fractions; the container's start is 0
    rate: samples per second, Hz
    samples: int16 (n, channels)
    """

    seconds: Fraction
    end_seconds: Fraction
    rate: int
    samples: npt.NDArray[np.int16]


class Warnings:
    """The warnings about one source. Each is logged once and kept for the outcome.

    location: the source, for the log
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._texts: dict[str, None] = {}  # an ordered set

    def add(self, text: str) -> None:
        if text not in self._texts:
            self._texts[text] = None
            log.warning("%s: %s", printable(self._location), text)

    def texts(self) -> tuple[str, ...]:
        return tuple(self._texts)


@dataclass(frozen=True)
class ReadOptions:
    """How to read a source. Each field is a setting of the same name, of the features that it applies to.

    video_stream, audio_stream: the stream to read: its index in the file, or its language, such as `eng`; None for the
        stream that the ffmpeg command selects
    square_pixels: resize pictures whose pixels are not square, so that they look as in a player
    deinterlace: deinterlace the pictures
    """

    video_stream: str | None = None
    audio_stream: str | None = None
    square_pixels: bool = False
    deinterlace: bool = False

    @classmethod
    def of(cls, settings: object) -> ReadOptions:
        """Return the options among the settings of a feature."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: getattr(settings, name) for name in names if hasattr(settings, name)})


BY_DEFAULT = ReadOptions()


# Called with two times in seconds: returns True if any frame that is shown between them is needed.
Wants = Callable[[Fraction, Fraction], bool]


@dataclass(frozen=True)
class TrackRecord:
    """The properties of a track for the record: `fps` for video; `sample_rate` (Hz) and `channels` for sound.

    stream: the index of the stream in a file
    """

    fps: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    stream: int | None = None


class Track(Protocol):
    """The video or sound of a source, with the properties that are known before decoding."""

    @property
    def start_seconds(self) -> Fraction:
        """Start of the track as the source states it, in seconds; the container's start is 0."""

    @property
    def end_seconds(self) -> Fraction | None:
        """End of the track as the source states it, in seconds; None if the source does not state an end."""

    @property
    def is_length_stated(self) -> bool:
        """True if the source states the length of the track. Otherwise the end is an estimate."""

    def describe(self) -> TrackRecord:
        """Return the properties of the track for the record."""


class FrameTrack(Track, Protocol):
    """The frames of a source.

    fps: average frames per second
    """

    fps: Fraction

    @property
    def has_constant_rate(self) -> bool:
        """True if each frame is shown for the same time, as far as the source states that."""

    def frame_count(self) -> int:
        """Return the number of frames: as stated, else from duration and rate, else by counting packets.

        The number is exact only if `is_length_stated`. See also `MediaSource.shown`.
        """


class SoundTrack(Track, Protocol):
    """The sound of a source."""

    def duration(self) -> Fraction:
        """Return the duration in seconds: as stated by the source, else measured by decoding all of the sound."""


class MediaSource(Protocol):
    """An open video or audio file, image folder or array. Also a context manager, which closes the source.

    identity: the identity of the source
    location: the path or the array name as the user wrote it, or the URL without its secrets, for messages
    segment: the part to read; None means the whole source
    warnings: what was repaired, left out or contradictory in the source so far
    """

    identity: Identity
    location: str
    segment: Segment | None

    @property
    def warnings(self) -> Warnings: ...

    @property
    def video(self) -> FrameTrack:
        """The frames of the source, read with the default options."""

    @property
    def audio(self) -> SoundTrack:
        """The sound of the source, read with the default options."""

    def frame_track(self, options: ReadOptions) -> FrameTrack:
        """Return the frames of the source; for equal options, the same track.

        Raises MediaError, which lists the existing streams, if there are none.
        """

    def sound_track(self, options: ReadOptions) -> SoundTrack:
        """Return the sound of the source; for equal options, the same track.

        Raises MediaError, which lists the existing streams, if there is none.
        """

    def shown(self, options: ReadOptions) -> Shown:
        """Return when the video shows frames, whatever the header states. May read the whole source.

        Raises MediaError if the source has no video, or cannot be read to its end.
        """

    def samples(
        self, tracks: Collection[Track], wants: Wants | None = None
    ) -> Iterator[tuple[Track, Frame | Sound | MediaError]]:
        """Yield the frames and the chunks of sound of these tracks. A second call reads the file once more.

        The samples of each track are in order of time. If a track cannot be decoded or ends too early, a MediaError
        takes the place of the rest of that track.

        With a segment, samples may start before the segment, at the latest with the sample at its start. They equal
        those of the whole source. The caller selects the samples that lie in the segment, and removes a track from
        `tracks` when the segment is over.

        tracks: the tracks to read; decoding of a track stops when the caller removes it from this collection
        wants: tells which frames are needed, if known. Other frames may have no picture, and several consecutive ones
            may be merged into one
        """

    def __enter__(self) -> MediaSource: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def frames_of(source: MediaSource) -> Iterator[Frame]:
    """Yield every frame of a source in display order. Raises MediaError if decoding fails or ends too early."""
    return samples_of(source, source.video)


def samples_of(source: MediaSource, track: Track) -> Iterator[Any]:
    """Yield every frame or chunk of sound of one track. Raises MediaError if decoding fails or ends too early."""
    for _, sample in source.samples([track]):
        if isinstance(sample, MediaError):
            raise sample
        yield sample
