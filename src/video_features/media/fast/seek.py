"""Decodes frames from the middle of a file, identical to those of decoding from the beginning."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import islice
from typing import Any

from ...errors import MediaError
from ..container import FFMPEG_ERRORS, packets_of, seconds_of, start_ticks
from ..demux import samples_or_error
from ..source import Frame
from ..video import VideoTrack

FramesOrError = Generator[Frame | MediaError, None, None]  # an error is the last item

# These containers have an index of keyframes, and keep the timestamps of the encoder.
CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# Decoders of these codecs can start at a keyframe and need nothing from before it.
CODECS = {"av1", "dnxhd", "ffv1", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "prores", "vp8", "vp9"}
# A packet of these codecs may hold a frame that is never shown and only serves as a reference.
HIDDEN_FRAME_CODECS = {"vp8"}
# The number of packets to check for plausible timestamps.
CHECKED_PACKETS = 32


def frames_from(track: VideoTrack, seconds: Fraction) -> FramesOrError:
    """Yield the frames of a track from the frame shown at `seconds` on, possibly preceded by a few earlier frames.

    See `MediaSource.samples`. Yields nothing if the frames may differ from those of decoding from the beginning.
    The file is opened again. Decoding starts at the nearest keyframe before `seconds` or, if its frames are not exact,
    at an earlier keyframe.
    """
    if not is_seekable(track):
        return
    target, step = seconds, Fraction(1, 10)
    while target > track.start_seconds:
        with track.reopened() as again:
            again.is_read_whole = False
            keyframe = _seek(again, target)
            if keyframe is not None and keyframe <= track.start_seconds:
                return
            if keyframe is not None and keyframe <= seconds:  # a container that seeks by DTS may land later
                frames = _from_keyframe(again, keyframe, seconds)
                first = next(frames, None)
                if first is not None:
                    yield first
                    yield from frames
                    return
        target, step = target - step, 4 * step


def is_seekable(track: VideoTrack) -> bool:
    """Return True if the container format and the codec allow exact decoding from any keyframe."""
    return track.container.format in CONTAINERS and track.codec in CODECS


def are_decoding_times(stream: Any, pts: list[int]) -> bool:
    """Return True if the PTS of packets, given in decoding order, are really decoding times.

    This is the case if the codec reorders frames (B-frames) although the timestamps never decrease.
    """
    return bool(stream.codec_context.has_b_frames) and pts == sorted(pts)


def _seek(track: VideoTrack, seconds: Fraction) -> Fraction | None:
    """Seek to the last keyframe before `seconds`.

    Returns the display time of the keyframe in seconds, or None if seeking fails or the timestamps are not reliable.
    """
    container, stream = track.container.handle, track.stream
    ticks = math.floor(seconds / stream.time_base) + start_ticks(container, stream)
    try:
        container.seek(ticks, stream=stream)
        packets = list(islice(packets_of(container, stream), CHECKED_PACKETS))
        container.seek(ticks, stream=stream)
    except FFMPEG_ERRORS:
        return None
    pts: list[Any] = [packet.pts for packet in packets if packet.size]  # the final flush packet is empty and has no PTS
    if not pts or None in pts or not packets[0].is_keyframe:
        return None
    if are_decoding_times(stream, pts):
        return None
    return seconds_of(container, stream, pts[0])


def _from_keyframe(
    track: VideoTrack, keyframe: Fraction, seconds: Fraction
) -> Generator[Frame | MediaError, None, None]:
    """Yield the frames for `frames_from`, or nothing if they are not exact.

    keyframe: display time in seconds of the keyframe at which the track was positioned
    """
    samples: Iterator[Any] = samples_or_error(track)
    # In an open GOP, frames that are decoded after a keyframe but shown before it may need earlier frames. Skip them.
    first = next((sample for sample in samples if isinstance(sample, MediaError) or sample.seconds >= keyframe), None)
    if not isinstance(first, Frame) or first.seconds != keyframe:
        return
    pending: list[Frame | MediaError] = [first]
    while _is_before(pending[-1], seconds) and (following := next(samples, None)) is not None:
        pending = [pending[-1], following] if isinstance(following, MediaError) else [following]
    if not track.are_times_unreliable:
        yield from pending
        yield from samples


def _is_before(sample: Frame | MediaError, seconds: Fraction) -> bool:
    return isinstance(sample, Frame) and sample.end_seconds <= seconds
