"""Pictures from the middle of a file on, exactly as they are when it is decoded from its beginning."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import islice
from typing import Any

from ...errors import MediaError
from ..container import FFMPEG_ERRORS, seconds_of, start_ticks
from ..demux import samples_of
from ..source import Frame
from ..video import VideoTrack

FramesOrError = Generator[Frame | MediaError, None, None]  # an error ends them

# These have an index of keyframes, and the encoder's own timestamps.
CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# From a keyframe on, their decoders need nothing that was before it.
CODECS = {"av1", "dnxhd", "ffv1", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "prores", "vp8", "vp9"}
# So many packets tell whether their timestamps can be right.
LOOKED_AT = 32


def frames_from(track: VideoTrack, seconds: Fraction) -> FramesOrError:
    """The frames of a track from the one shown at `seconds` on, and perhaps some before it; see
    `MediaSource.samples`. None at all: they are not sure to be exact but from the file's beginning.

    It is read anew, from the nearest keyframe where that will do, else from further back.
    """
    if not is_seekable(track):
        return
    target, step = seconds, Fraction(1, 10)
    while target > track.start_seconds:
        with track.reopened() as again:
            keyframe = _seek(again, target)
            if keyframe is not None and keyframe <= track.start_seconds:
                return
            if keyframe is not None and keyframe <= seconds:  # containers may seek by the times of decoding
                frames = _from_keyframe(again, keyframe, seconds)
                first = next(frames, None)
                if first is not None:
                    yield first
                    yield from frames
                    return
        target, step = target - step, 4 * step


def is_seekable(track: VideoTrack) -> bool:
    """Whether decoding a track from any keyframe on is exact, by its container format and codec."""
    return track.container.format in CONTAINERS and track.codec in CODECS


def are_times_of_decoding(stream: Any, pts: list[int]) -> bool:
    """Whether presentation timestamps, in the order of decoding, are not those at which frames are shown: these are
    shown in another order, and the timestamps never go back."""
    return bool(stream.codec_context.has_b_frames) and pts == sorted(pts)


def _seek(track: VideoTrack, seconds: Fraction) -> Fraction | None:
    """Go on reading at the last keyframe before `seconds`: when it is shown. None: its timestamps are not sure."""
    container, stream = track.container.handle, track.stream
    ticks = math.floor(seconds / stream.time_base) + start_ticks(container, stream)
    try:
        container.seek(ticks, stream=stream)
        packets = list(islice(container.demux(stream), LOOKED_AT))
        container.seek(ticks, stream=stream)
    except FFMPEG_ERRORS:
        return None
    pts = [packet.pts for packet in packets if packet.size]  # the last packet, which flushes, has none
    if not pts or None in pts or not packets[0].is_keyframe:
        return None
    if are_times_of_decoding(stream, pts):
        return None
    return seconds_of(container, stream, pts[0])


def _from_keyframe(
    track: VideoTrack, keyframe: Fraction, seconds: Fraction
) -> Generator[Frame | MediaError, None, None]:
    """What `frames_from` gives, read on from the keyframe that is shown then; nothing where that is not exact."""
    samples: Iterator[Any] = samples_of(track)
    # Frames that are decoded after a keyframe and shown before it may need others before it (an open GOP).
    first = next((sample for sample in samples if isinstance(sample, MediaError) or sample.seconds >= keyframe), None)
    if not isinstance(first, Frame) or first.seconds != keyframe:
        return
    held: list[Frame | MediaError] = [first]
    while _is_before(held[-1], seconds) and (following := next(samples, None)) is not None:
        held = [held[-1], following] if isinstance(following, MediaError) else [following]
    if not track.are_times_doubtful:
        yield from held
        yield from samples


def _is_before(sample: Frame | MediaError, seconds: Fraction) -> bool:
    return isinstance(sample, Frame) and sample.end_seconds <= seconds
