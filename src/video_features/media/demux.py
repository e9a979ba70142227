"""Decodes several tracks of a container in one pass over its packets."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import av.error

from ..errors import MediaError
from .container import FFMPEG_ERRORS, Container, decoding_error, latest_seconds, note_end, packets_of
from .source import Frame, Sound, Track
from .track import FileTrack

Samples = Iterator[tuple[Track, Frame | Sound | MediaError]]


def demux(container: Container, tracks: Collection[Track], active: Collection[FileTrack[Any]]) -> Samples:
    """Decode the tracks in `active` from the container's current position, and yield their samples with the track.

    See `MediaSource.samples`.

    tracks: the tracks that the caller still needs. Decoding of a track stops when the caller removes it from here
    Raises MediaError if the container itself cannot be read.
    """
    active = list(active)
    ends: dict[Any, int] = {}  # {stream: end of the packets so far, in ticks of the stream}
    try:
        # Read all streams, so that a video that is shorter than its sound does not count as truncated.
        for packet in packets_of(container.handle):
            note_end(ends, packet)
            for track in active.copy():
                if packet.stream is track.stream:  # compare streams, as the final flush packet has no stream index
                    yield from _until_error(track, track.decode(packet), active)
            for track in active.copy():
                if track not in tracks:
                    active.remove(track)
                    track.cancel()
            if not active:
                return
    except av.error.InvalidDataError as error:  # for example, the file is cut off
        for track in active.copy():
            yield from _until_error(track, track.flush_after_error(error), active)
    except FFMPEG_ERRORS as error:  # the file cannot be read
        raise decoding_error(container.location, latest_seconds(container.handle, ends), error) from error
    for track in active.copy():
        yield from _until_error(track, track.finish(latest_seconds(container.handle, ends)), active)


def samples_or_error(track: FileTrack[Any]) -> Iterator[Any]:
    """Yield every sample of one track from the container's current position, then a MediaError if decoding fails."""
    return (sample for _, sample in demux(track.container, [track], [track]))


def _until_error(track: FileTrack[Any], samples: Iterator[Frame | Sound], active: list[FileTrack[Any]]) -> Samples:
    """Yield the samples of a track. If decoding fails, yield the error and remove the track from `active`."""
    try:
        for sample in samples:
            yield track, sample
            del sample  # a large picture must not stay in memory while the next one is decoded
    except MediaError as error:
        active.remove(track)
        yield track, error
