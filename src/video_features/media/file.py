"""Opens a video or audio file, selects the streams to read, and chooses how to decode them."""

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
from .fast.shown import shown_by
from .fast.sparse import frames_wanted
from .identity import Identity
from .source import Frame, Sound, Track, Wants, Warnings
from .timestamps import Shown
from .track import FileTrack
from .video import VideoTrack

COVER_ART = av.stream.Disposition.attached_pic
DEFAULT = av.stream.Disposition.default


class MediaFile:
    """A file in any container format and codec that FFmpeg reads. See `MediaSource`.

    file: the input for PyAV: `file:PATH`, or an open binary file
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

    @property
    def warnings(self) -> Warnings:
        return self.container.warnings

    @cached_property
    def video(self) -> VideoTrack:
        """The first video stream that is not cover art. Raises MediaError if there is none."""
        for stream in self.container.handle.streams.video:
            if not stream.disposition & COVER_ART:
                return VideoTrack(self.container, stream)
        raise self._missing_stream("video")

    @cached_property
    def audio(self) -> AudioTrack:
        """The audio stream that the ffmpeg command selects.

        This is the default stream with the most channels or, without a default stream, the one with the most channels.
        Raises MediaError if there is no audio stream.
        """
        streams = self.container.handle.streams.audio
        if not streams:
            raise self._missing_stream("audio")
        best = max(streams, key=lambda stream: (bool(stream.disposition & DEFAULT), _channels(stream)))
        return AudioTrack(self.container, best)

    def shown(self) -> Shown:
        return shown_by(self.video)

    def samples(
        self, tracks: Collection[Track], wants: Wants | None = None
    ) -> Iterator[tuple[Track, Frame | Sound | MediaError]]:
        active: list[FileTrack[Any]] = [track for track in tracks if isinstance(track, FileTrack)]
        for frame in self._selected_frames(tracks, wants):
            active = [track for track in active if track is not self.video]  # already decoded by `_selected_frames`
            yield self.video, frame
        yield from demux(self.container, tracks, active)

    def _selected_frames(self, tracks: Collection[Track], wants: Wants | None) -> Iterator[Frame | MediaError]:
        """Yield only the wanted frames, or the frames from the segment's start on, if the file can be read like that.

        Yields nothing if the whole video has to be decoded.
        These frames are read in a separate pass, because sound is exact only if it is decoded from the beginning of
        the file: its decoder state, its resampling and the silence in its gaps depend on everything before. The pass
        over the sound decodes no frames.
        """
        if not any(isinstance(track, VideoTrack) for track in tracks):
            return
        readers = [] if wants is None else [frames_wanted(self.video, self.segment, wants)]
        if self.segment is not None and self.segment.start:
            readers.append(frames_from(self.video, self.segment.start))
        for reader in readers:
            with closing(reader) as frames:
                is_exact = False  # a reader that cannot be exact yields nothing
                for frame in frames:
                    is_exact = True
                    yield frame
                    if self.video not in tracks:
                        return
                if is_exact:
                    return

    def _missing_stream(self, kind: str) -> MediaError:
        streams = ", ".join(_stream_name(stream) for stream in self.container.handle.streams)
        return MediaError(
            f"{self.location}: no {kind} stream in it, {f'only {streams}' if streams else 'nor any other'}"
        )


def _stream_name(stream: Any) -> str:
    """Return the type and the codec of a stream: `audio (aac)`."""
    kind = "a cover" if stream.disposition & COVER_ART else stream.type
    context = stream.codec_context
    return str(kind) if context is None else f"{kind} ({context.codec.canonical_name})"


def _channels(stream: Any) -> int:
    return 0 if stream.codec_context is None else int(stream.codec_context.channels)
