"""Files of video and sound, local or remote, read by PyAV (FFmpeg's libraries come in its wheel)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import av
import av.error

from ..errors import MediaError
from ..windows import Segment
from .audio import AudioTrack
from .identity import Identity
from .samples import Frame, Sound
from .seeking import frames_from
from .skipping import frames_wanted
from .source import Track, Wants
from .track import FFMPEG_ERRORS, FileTrack, broken, latest, note_end, reason
from .video import VideoTrack

if TYPE_CHECKING:
    from av.container import InputContainer

PLAYLIST = b"ffconcat"  # such a list may name itself, and FFmpeg reads it until there is no file left to open
COVER = av.stream.Disposition.attached_pic
DEFAULT = av.stream.Disposition.default


class MediaFile:
    """A file of any container and codec that FFmpeg reads. See `MediaSource`.

    file: what PyAV opens: `file:PATH`, or an open binary file
    container: PyAV's
    Raises MediaError if FFmpeg cannot read the file.
    """

    def __init__(self, file: str | IO[bytes], identity: Identity, segment: Segment | None = None) -> None:
        self.identity = identity
        self.segment = segment
        self.location = identity.location
        self._file = file
        self.container = self._open()

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.close()
        if not isinstance(self._file, str):
            self._file.close()

    @cached_property
    def video(self) -> VideoTrack:
        """The first video stream that is not a song's cover."""
        for stream in self.container.streams.video:
            if not stream.disposition & COVER:
                return VideoTrack(self, stream)
        raise self._lacks("video")

    @cached_property
    def audio(self) -> AudioTrack:
        """The audio stream that FFmpeg's command takes: the default one; of several, that with the most channels."""
        streams = self.container.streams.audio
        if not streams:
            raise self._lacks("audio")
        best = max(streams, key=lambda stream: (bool(stream.disposition & DEFAULT), _channels(stream)))
        return AudioTrack(self, best)

    @property
    def format(self) -> str:
        """The container's, by FFmpeg's name."""
        return self.container.format.name

    @property
    def is_local(self) -> bool:
        return isinstance(self._file, str)

    def samples(
        self, tracks: Collection[Track], wants: Wants | None = None
    ) -> Iterator[tuple[Track, Frame | Sound | MediaError]]:
        going: list[FileTrack[Any]] = [track for track in tracks if isinstance(track, FileTrack)]
        for frame in self._frames_apart(tracks, wants):
            going = [track for track in going if track is not self.video]  # which is read here, then
            yield self.video, frame
        ends: dict[Any, int] = {}  # of the packets so far, by stream, in its ticks
        try:
            # All streams are read, so that a video shorter than its sound is not taken for truncated.
            for packet in self.container.demux():
                note_end(ends, packet)
                for track in going.copy():
                    if packet.stream is track.stream:  # not its index: the last packet, which flushes, has none
                        yield from _or_the_error(track, track.take(packet), going)
                for track in going.copy():
                    if track not in tracks:  # the caller took it out
                        going.remove(track)
                        track.leave()
                if not going:
                    return
        except av.error.InvalidDataError as error:  # as where a file was cut
            for track in going.copy():
                yield from _or_the_error(track, track.stop(error), going)
        except FFMPEG_ERRORS as error:  # reading itself
            raise broken(self.location, latest(self.container, ends), error) from error
        for track in going.copy():
            yield from _or_the_error(track, track.finish(latest(self.container, ends)), going)

    @contextmanager
    def reopened(self) -> Iterator[MediaFile]:
        """The same file, to read it once more; a remote one is then where it was before."""
        at = None if isinstance(self._file, str) else self._file.tell()
        if not isinstance(self._file, str):
            self._file.seek(0)
        again = MediaFile(self._file, self.identity)
        try:
            yield again
        finally:
            again.container.close()
            if not isinstance(self._file, str):
                self._file.seek(at or 0)

    def _frames_apart(self, tracks: Collection[Track], wants: Wants | None) -> Iterator[Frame | MediaError]:
        """Those of the video that are wanted, or from the segment's start on, where they can be read without others.

        In a reading of their own: sound is exact only from the file's beginning on, as its decoder, its resampling and
        what fills its gaps depend on all that was before. To read it decodes no picture.
        """
        if not any(isinstance(one, VideoTrack) for one in tracks):
            return
        ways = [] if wants is None else [frames_wanted(self, wants)]
        if self.segment is not None and self.segment.start:
            ways.append(frames_from(self, self.segment.start))
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

    def beginning(self, size: int) -> bytes:
        """The first bytes of the file."""
        if isinstance(self._file, str):
            with Path(self._file.removeprefix("file:")).open("rb") as file:
                return file.read(size)
        at = self._file.tell()
        self._file.seek(0)
        try:
            return self._file.read(size)
        finally:
            self._file.seek(at)

    def _open(self) -> InputContainer:
        try:
            if self.beginning(len(PLAYLIST)) == PLAYLIST:
                raise MediaError(
                    f"{self.location}: a list of files for FFmpeg, and no video; name the files themselves"
                )
            return av.open(self._file, mode="r", metadata_errors="replace")
        except (*FFMPEG_ERRORS, ValueError) as error:
            raise MediaError(
                f"{self.location}: not a file of video or sound that FFmpeg can read ({reason(error)})"
            ) from error

    def _lacks(self, kind: str) -> MediaError:
        streams = ", ".join(_in_words(stream) for stream in self.container.streams)
        return MediaError(
            f"{self.location}: no {kind} stream in it, {f'only {streams}' if streams else 'nor any other'}"
        )


def _or_the_error(
    track: FileTrack[Any], samples: Iterator[Frame | Sound], going: list[FileTrack[Any]]
) -> Iterator[tuple[Track, Frame | Sound | MediaError]]:
    """The samples of a track; where it breaks, the reason, and the track goes on no more."""
    try:
        for sample in samples:
            yield track, sample
    except MediaError as error:
        going.remove(track)
        yield track, error


def _in_words(stream: Any) -> str:
    """`audio (aac)`"""
    kind = "a cover" if stream.disposition & COVER else stream.type
    context = stream.codec_context
    return str(kind) if context is None else f"{kind} ({context.codec.canonical_name})"


def _channels(stream: Any) -> int:
    return 0 if stream.codec_context is None else int(stream.codec_context.channels)
