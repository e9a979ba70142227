"""A file of video and sound: which of its streams are read, and in which way."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from functools import cached_property
from types import TracebackType
from typing import IO, Any

import av

from ..errors import MediaError
from ..timeline.segments import Segment
from .audio import AudioTrack
from .container import Container
from .demux import demux
from .fast.seek import frames_from
from .fast.sparse import frames_wanted
from .identity import Identity
from .source import Frame, Sound, Track, Wants
from .track import FileTrack
from .video import VideoTrack

COVER = av.stream.Disposition.attached_pic
DEFAULT = av.stream.Disposition.default


class MediaFile:
    """A file of any container and codec that FFmpeg reads. See `MediaSource`.

    file: what PyAV opens: `file:PATH`, or an open binary file
    Raises MediaError if FFmpeg cannot read the file.
    """

    def __init__(self, file: str | IO[bytes], identity: Identity, segment: Segment | None = None) -> None:
        self.identity = identity
        self.segment = segment
        self.location = identity.location
        self.container = Container(file, identity)

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.close()

    @cached_property
    def video(self) -> VideoTrack:
        """The first video stream that is not a song's cover."""
        for stream in self.container.handle.streams.video:
            if not stream.disposition & COVER:
                return VideoTrack(self.container, stream)
        raise self._lacks("video")

    @cached_property
    def audio(self) -> AudioTrack:
        """The audio stream that FFmpeg's command takes: the default one; of several, that with the most channels."""
        streams = self.container.handle.streams.audio
        if not streams:
            raise self._lacks("audio")
        best = max(streams, key=lambda stream: (bool(stream.disposition & DEFAULT), _channels(stream)))
        return AudioTrack(self.container, best)

    def samples(
        self, tracks: Collection[Track], wants: Wants | None = None
    ) -> Iterator[tuple[Track, Frame | Sound | MediaError]]:
        going: list[FileTrack[Any]] = [track for track in tracks if isinstance(track, FileTrack)]
        for frame in self._frames_apart(tracks, wants):
            going = [track for track in going if track is not self.video]  # which is read here, then
            yield self.video, frame
        yield from demux(self.container, tracks, going)

    def _frames_apart(self, tracks: Collection[Track], wants: Wants | None) -> Iterator[Frame | MediaError]:
        """Those of the video that are wanted, or from the segment's start on, where they can be read without others.

        In a reading of their own: sound is exact only from the file's beginning on, as its decoder, its resampling and
        what fills its gaps depend on all that was before. To read it decodes no picture.
        """
        if not any(isinstance(one, VideoTrack) for one in tracks):
            return
        ways = [] if wants is None else [frames_wanted(self.video, self.segment, wants)]
        if self.segment is not None and self.segment.start:
            ways.append(frames_from(self.video, self.segment.start))
        for way in ways:
            with closing(way) as frames:
                is_way = False
                for frame in frames:
                    is_way = True
                    yield frame
                    if self.video not in tracks:
                        return
                if is_way:
                    return

    def _lacks(self, kind: str) -> MediaError:
        streams = ", ".join(_in_words(stream) for stream in self.container.handle.streams)
        return MediaError(
            f"{self.location}: no {kind} stream in it, {f'only {streams}' if streams else 'nor any other'}"
        )


def _in_words(stream: Any) -> str:
    """`audio (aac)`"""
    kind = "a cover" if stream.disposition & COVER else stream.type
    context = stream.codec_context
    return str(kind) if context is None else f"{kind} ({context.codec.canonical_name})"


def _channels(stream: Any) -> int:
    return 0 if stream.codec_context is None else int(stream.codec_context.channels)
