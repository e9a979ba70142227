"""Decodes only the frames that are needed at a low frame rate, identical to those of decoding every frame.

The file is read twice. The first pass lists the packets without decoding, which takes little time. The second pass
decodes each group of pictures that has a wanted frame, from its keyframe to its last wanted frame. It skips all other
groups, the rest of each group, and frames in between that no other frame refers to:

    groups       K . . . . . . . K . . . . . . . K . . . . . . . K . . . . . . .      K: keyframe
    wanted             x                                 x
    decoded      d d n d                         d d n n d                            n: only if a frame refers to it
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.video.frame import VideoFrame

from ...errors import MediaError
from ...timeline.segments import Segment
from ..container import FFMPEG_ERRORS, packets_of, start_ticks
from ..demux import samples_or_error
from ..source import Frame, Wants
from ..video import VideoTrack
from .packets import Packets, list_packets
from .seek import CHECKED_PACKETS, HIDDEN_FRAME_CODECS, FramesOrError, is_seekable

if TYPE_CHECKING:
    from av.packet import Packet

# For a segment that is a smaller fraction of the file, decoding all frames is faster than listing all packets.
MIN_SEGMENT_SHARE = Fraction(1, 10)
# If more consecutive packets than this are not needed, seek instead of reading past them.
MAX_PACKETS_TO_SKIP = 50


class PacketMismatch(Exception):
    """A decoded frame does not match the packet list, so the list cannot be trusted for the skipped frames either."""


def frames_wanted(track: VideoTrack, segment: Segment | None, wants: Wants) -> FramesOrError:
    """Yield the frames of a track. Consecutive unwanted frames may be merged into one frame without a picture.

    See `MediaSource.samples`. Yields nothing if the wanted frames may differ from those of decoding every frame. If a
    mismatch appears only later, the file is opened again, and all frames from that time on are decoded.
    """
    if not track.container.is_local or not is_seekable(track) or track.codec in HIDDEN_FRAME_CODECS:
        return
    if segment and track.end_seconds and segment.share(track.start_seconds, track.end_seconds) < MIN_SEGMENT_SHARE:
        return
    try:
        packets = list_packets(track)
    except MediaError:  # decoding all frames fails, too, and tells the other tracks
        return
    if packets is None or not packets.can_skip or len(packets.order) <= CHECKED_PACKETS:
        return
    if len(packets.shown(track).stretches(track.fps)) > 1:  # merged frames would hide the gaps
        return
    reached: Fraction | None = None
    with suppress(PacketMismatch, *FFMPEG_ERRORS), track.reopened() as again:
        try:
            for frame in _SparseReader(again, packets, wants).frames():
                yield frame
                reached = frame.end_seconds
            again.reached, again.is_read_whole = reached, False
            yield from again.finish(packets.file_reached)
        except MediaError as error:
            yield error
        return
    if reached is None:
        return
    with track.reopened() as again:
        for sample in samples_or_error(again):
            if isinstance(sample, MediaError) or sample.end_seconds > reached:
                yield sample


@dataclass
class Run:
    """Consecutive packets to decode: from the keyframe with the index `first` up to, but without, `stop`."""

    first: int
    stop: int


def decode_ranges(packets: Packets, is_needed: bytearray) -> list[Run]:
    """Return the runs of packets to decode for the needed frames, in order.

    is_needed: for each packet, 1 if its frame is needed, else 0
    """
    runs: list[Run] = []
    is_joined = False  # the following group needs this group to be decoded
    for first, stop in itertools.pairwise(reversed([*packets.keyframes, len(packets.pts)])):
        first, stop = stop, first
        needed = is_needed.rfind(1, first, stop)
        if is_joined:
            runs[-1].first = first
        elif needed >= 0:
            runs.append(Run(first, needed + 1))
        # In an open GOP, a frame that is decoded after the keyframe but shown before it may need the previous group.
        is_joined = first > 0 and any(
            is_needed[k] and packets.pts[k] < packets.pts[first] for k in range(first, needed + 1)
        )
    return runs[::-1]


class _SparseReader:
    """Reads a video once, and decodes only the packets that the wanted frames need."""

    def __init__(self, track: VideoTrack, packets: Packets, wants: Wants) -> None:
        self._track = track
        self._handle = track.container.handle
        self._packets = packets
        self._start_ticks = start_ticks(self._handle, track.stream)
        # Display indices by PTS.
        self._index_of_pts = {packets.pts[k]: index for index, k in enumerate(packets.order)}
        wanted = sorted(self._wanted_frames(wants))
        # Decoding the last frame shows whether the file is complete.
        indices = sorted({*wanted, *self._frames_to_check(wanted), len(packets.order) - 1})
        self._is_needed = bytearray(len(packets.pts))
        for index in indices:
            self._is_needed[packets.order[index]] = 1
        self._needed = iter(indices)  # display indices of the needed frames that are still to come
        self._unread: Iterator[Packet[Any]] = self._demux()
        self._packet_index = 0  # index of the next packet

    def frames(self) -> Iterator[Frame]:
        """Yield every frame once, or as part of a merged frame without a picture.

        Raises PacketMismatch, or an FFmpeg error.
        """
        index, needed = 0, next(self._needed)  # display indices of the next frame, and of the next needed frame
        for run in decode_ranges(self._packets, self._is_needed):
            for decoded in self._decode(run):
                found = -1 if decoded.pts is None else self._index_of_pts.get(decoded.pts, -1)
                if not index <= found <= needed or decoded.is_corrupt:
                    raise PacketMismatch
                if found > index:
                    yield self._skipped_frame(index, found)
                yield self._decoded_frame(decoded, found)
                index, needed = found + 1, next(self._needed, len(self._index_of_pts)) if found == needed else needed
        if index < len(self._index_of_pts):
            raise PacketMismatch

    def _decoded_frame(self, decoded: VideoFrame, index: int) -> Frame:
        start = self._seconds(index)
        is_last = index + 1 == len(self._index_of_pts)
        end = start + self._track.frame_duration(decoded) if is_last else self._seconds(index + 1)
        return self._track.frame(decoded, start, end)

    def _skipped_frame(self, index: int, stop: int) -> Frame:
        """Return one frame without a picture in place of the frames from `index` up to `stop`."""

        def no_picture() -> Any:
            raise AssertionError(f"{self._track.container.location}: the picture of a skipped frame was requested")

        return Frame(self._seconds(index), self._seconds(stop), no_picture, is_merged=True)

    def _decode(self, run: Run) -> Iterator[VideoFrame]:
        """Yield the frames of a run in display order, from its keyframe on."""
        decoded = self._decode_packets(run)
        if run.first:
            keyframe = self._packets.pts[run.first]
            first = next((frame for frame in decoded if frame.pts is None or frame.pts >= keyframe), None)
            if first is None or first.pts != keyframe or not first.key_frame:
                raise PacketMismatch  # decoding cannot start at this packet
            yield first
        yield from decoded

    def _decode_packets(self, run: Run) -> Iterator[VideoFrame]:
        stream = self._track.stream
        context = stream.codec_context
        for packet in self._packets_of(run):
            is_skippable = self._packets.names_nonreference and not self._is_needed[self._packet_index - 1]
            context.skip_frame = "NONREF" if is_skippable else "DEFAULT"
            yield from packet.decode()
        yield from stream.decode(None)
        context.flush_buffers()  # the next run starts at a keyframe

    def _packets_of(self, run: Run) -> Iterator[Packet[Any]]:
        """Yield the packets of a run. Seeks if the run is far ahead, else reads past the packets before it."""
        packets = self._packets
        if run.first - self._packet_index > MAX_PACKETS_TO_SKIP:
            self._handle.seek(packets.seek_ticks(run.first), stream=self._track.stream)
            self._unread = self._demux()
            # The seek may land further back than needed, and at packets whose frames are never shown.
            landed = next((packet for packet in self._unread if packet.pts in self._index_of_pts), None)
            if landed is None or landed.pts is None:
                raise PacketMismatch
            self._packet_index = packets.order[self._index_of_pts[landed.pts]]
            self._unread = itertools.chain([landed], self._unread)
        if self._packet_index > run.first:
            raise PacketMismatch
        for packet in self._unread:
            if packet.pts != packets.pts[self._packet_index]:
                raise PacketMismatch  # the file has changed since the packets were listed
            self._packet_index += 1
            if self._packet_index > run.first:
                yield packet
            if self._packet_index == run.stop:
                return
        raise PacketMismatch

    def _demux(self) -> Iterator[Packet[Any]]:
        return (packet for packet in packets_of(self._handle, self._track.stream) if packet.size)

    def _wanted_frames(self, wants: Wants) -> Iterator[int]:
        """Yield the display indices of the wanted frames, except for the last frame, whose end is not known yet.

        Bisects the frames, so that `wants` is called once for a long range without a wanted frame.
        """
        ranges = [(0, len(self._index_of_pts) - 1)]
        while ranges:
            start, stop = ranges.pop()
            if start == stop or not wants(self._seconds(start), self._seconds(stop)):
                continue
            if stop - start == 1:
                yield start
            else:
                middle = (start + stop) // 2
                ranges += [(start, middle), (middle, stop)]

    def _frames_to_check(self, wanted: list[int]) -> Iterator[int]:
        """Yield the display indices of the first frames to decode, to check that they match the packet list."""
        packets = self._packets
        first = packets.order[wanted[0]] if wanted else 0
        keyframe = max(keyframe for keyframe in packets.keyframes if keyframe <= first)
        for pts in packets.pts[keyframe : keyframe + CHECKED_PACKETS]:
            if pts in self._index_of_pts and (not keyframe or pts >= packets.pts[keyframe]):
                yield self._index_of_pts[pts]

    def _seconds(self, index: int) -> Fraction:
        ticks = self._packets.pts[self._packets.order[index]]
        return (ticks - self._start_ticks) * Fraction(self._track.stream.time_base)
