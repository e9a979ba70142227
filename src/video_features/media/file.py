"""Opens a video or audio file, selects the streams to read, and chooses how to decode them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import IO, Any

from ..errors import MediaError
from ..timeline.segments import Segment
from .audio import AudioTrack
from .container import Container
from .demux import demux, samples_or_error
from .fast.seek import frames_from
from .fast.shown import shown_by
from .fast.sparse import frames_wanted
from .identity import Identity
from .source import BY_DEFAULT, Frame, ReadOptions, Sound, Track, Wants, Warnings
from .streams import choose_audio, choose_video
from .timestamps import Shown
from .track import FileTrack
from .video import VideoTrack


class MediaFile:
    """A file in any container format and codec that FFmpeg reads. See `MediaSource`.

    file: the input for PyAV: `file:PATH`, or an open binary file
    warnings: of the file so far
    Raises MediaError if FFmpeg cannot read the file.
    """

    def __init__(
        self,
        file: str | IO[bytes],
        identity: Identity,
        segment: Segment | None = None,
        warnings: Warnings | None = None,
    ) -> None:
        self.identity = identity
        self.segment = segment
        self.location = identity.location
        self.container = Container(file, identity, warnings)
        # The chosen streams, {setting: stream}, and the tracks, so that equal options share a track and its decoding.
        self._video_streams: dict[str | None, Any] = {}
        self._audio_streams: dict[str | None, Any] = {}
        self._video_tracks: dict[tuple[int, ReadOptions], VideoTrack] = {}
        self._audio_tracks: dict[int, AudioTrack] = {}
        self._has_been_read = False

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.close()

    @property
    def warnings(self) -> Warnings:
        return self.container.warnings

    @property
    def video(self) -> VideoTrack:
        return self.frame_track(BY_DEFAULT)

    @property
    def audio(self) -> AudioTrack:
        return self.sound_track(BY_DEFAULT)

    def frame_track(self, options: ReadOptions) -> VideoTrack:
        """Return the frames of the stream that `choose_video` chooses. Raises MediaError if there is none."""
        wanted, conversion = options.video_stream, replace(options, video_stream=None, audio_stream=None)
        if wanted not in self._video_streams:
            self._video_streams[wanted] = choose_video(self.container, wanted)
        stream = self._video_streams[wanted]
        key = stream.index, conversion
        if key not in self._video_tracks:
            self._video_tracks[key] = VideoTrack(self.container, stream, conversion)
        return self._video_tracks[key]

    def sound_track(self, options: ReadOptions) -> AudioTrack:
        """Return the sound of the stream that `choose_audio` chooses. Raises MediaError if there is none."""
        wanted = options.audio_stream
        if wanted not in self._audio_streams:
            self._audio_streams[wanted] = choose_audio(self.container, wanted)
        stream = self._audio_streams[wanted]
        if stream.index not in self._audio_tracks:
            self._audio_tracks[stream.index] = AudioTrack(self.container, stream)
        return self._audio_tracks[stream.index]

    def shown(self, options: ReadOptions) -> Shown:
        return shown_by(self.frame_track(options))

    def samples(
        self, tracks: Collection[Track], wants: Wants | None = None
    ) -> Iterator[tuple[Track, Frame | Sound | MediaError]]:
        active: list[FileTrack[Any]] = [track for track in tracks if isinstance(track, FileTrack)]
        for track in active.copy():
            for frame in self._selected_frames(track, tracks, wants):
                active = [other for other in active if other is not track]  # already decoded by `_selected_frames`
                yield track, frame
        # A stream has one decoder, so tracks of the same stream with other options are read in passes of their own.
        by_stream = {} if self._has_been_read else {track.stream.index: track for track in reversed(active)}
        self._has_been_read = True
        yield from demux(self.container, tracks, list(by_stream.values())[::-1])
        for track in active:
            if track in tracks and by_stream.get(track.stream.index) is not track:
                yield from _in_a_pass_of_its_own(track, tracks)

    def _selected_frames(
        self, track: FileTrack[Any], tracks: Collection[Track], wants: Wants | None
    ) -> Iterator[Frame | MediaError]:
        """Yield only the wanted frames, or the frames from the segment's start on, if the file can be read like that.

        Yields nothing if the whole video has to be decoded.
        These frames are read in a separate pass, because sound is exact only if it is decoded from the beginning of
        the file: its decoder state, its resampling and the silence in its gaps depend on everything before. The pass
        over the sound decodes no frames.
        """
        if not isinstance(track, VideoTrack) or track.options.deinterlace:
            return  # a picture that is deinterlaced depends on those around it
        readers = [] if wants is None else [frames_wanted(track, self.segment, wants)]
        if self.segment is not None and self.segment.start:
            readers.append(frames_from(track, self.segment.start))
        for reader in readers:
            with closing(reader) as frames:
                is_exact = False  # a reader that cannot be exact yields nothing
                for frame in frames:
                    is_exact = True
                    yield frame
                    if track not in tracks:
                        return
                if is_exact:
                    return


def _in_a_pass_of_its_own(
    track: FileTrack[Any], tracks: Collection[Track]
) -> Iterator[tuple[Track, Frame | Sound | MediaError]]:
    with track.reopened() as again:
        for sample in samples_or_error(again):
            yield track, sample
            if track not in tracks:
                return
