"""Finds out when a video shows frames: from its packets where their times are certain, else by decoding the video.

The header may be wrong. A browser's WebM states neither a length nor a rate, an edit list hides frames, and joined
transport streams go on after the end that FFmpeg finds.
"""

from __future__ import annotations

from fractions import Fraction

from ...errors import MediaError
from ..demux import samples_or_error
from ..timestamps import Shown
from ..video import VideoTrack
from .packets import list_packets
from .seek import CONTAINERS, HIDDEN_FRAME_CODECS


def shown_by(track: VideoTrack) -> Shown:
    """Return when a track shows frames. Reads the file in a separate pass.

    Raises MediaError if the packets do not tell and decoding fails.
    """
    if track.container.format in CONTAINERS and track.codec not in HIDDEN_FRAME_CODECS:
        packets = list_packets(track)
        if packets is not None:
            return packets.shown(track)
    starts, end = [], Fraction(0)
    with track.reopened() as again:
        for sample in samples_or_error(again):
            if isinstance(sample, MediaError):
                raise sample
            starts.append(sample.seconds)
            end = sample.end_seconds
    track.fps = again.fps  # corrected by what was decoded
    return Shown(starts, end)
