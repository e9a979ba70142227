"""What every source of frames and sound offers: its tracks, and one reading of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any, Protocol

from ..errors import MediaError
from ..windows import Segment
from .identity import Identity
from .samples import Frame, Sound

# Whether a frame would be taken that is shown from until when, in seconds, or one of several that are.
Wants = Callable[[Fraction, Fraction], bool]


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

    def describe(self) -> dict[str, Any]:
        """What a record tells of it."""


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
