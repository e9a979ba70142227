"""One pass over a container: packets in, frames and pieces of sound out, for several tracks at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import av.error

from ..errors import MediaError
from .container import FFMPEG_ERRORS, Container, broken, latest, note_end
from .source import Frame, Sound, Track
from .track import FileTrack

Samples = Iterator[tuple[Track, Frame | Sound | MediaError]]


def demux(container: Container, tracks: Collection[Track], going: Collection[FileTrack[Any]]) -> Samples:
    """Decode the tracks in `going`, from where the container stands. See `MediaSource.samples`.

    tracks: a track that the caller removes from here is decoded no further
    """
    going = list(going)
    ends: dict[Any, int] = {}  # of the packets so far, by stream, in the stream's ticks
    try:
        # All streams are read, so that a video shorter than its sound is not taken for truncated.
        for packet in container.handle.demux():
            note_end(ends, packet)
            for track in going.copy():
                if packet.stream is track.stream:  # not its index: the last packet, which flushes, has none
                    yield from _until_error(track, track.take(packet), going)
            for track in going.copy():
                if track not in tracks:
                    going.remove(track)
                    track.leave()
            if not going:
                return
    except av.error.InvalidDataError as error:  # as where a file was cut
        for track in going.copy():
            yield from _until_error(track, track.stop(error), going)
    except FFMPEG_ERRORS as error:  # reading itself
        raise broken(container.location, latest(container.handle, ends), error) from error
    for track in going.copy():
        yield from _until_error(track, track.finish(latest(container.handle, ends)), going)


def samples_of(track: FileTrack[Any]) -> Iterator[Any]:
    """Every sample of one track, from where its container stands, and last of all a MediaError if decoding fails."""
    return (sample for _, sample in demux(track.container, [track], [track]))


def _until_error(track: FileTrack[Any], samples: Iterator[Frame | Sound], going: list[FileTrack[Any]]) -> Samples:
    """The samples of a track; where it breaks, the error, and the track ends."""
    try:
        for sample in samples:
            yield track, sample
    except MediaError as error:
        going.remove(track)
        yield track, error
