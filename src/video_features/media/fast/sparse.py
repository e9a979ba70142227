"""Frames at a low rate: those that are wanted, exactly as they are when all are decoded, and as few others as may be.

The packets are read twice: first for their times alone, which takes hardly any, then those that are needed. These are
not decoded:

    groups       K . . . . . . . K . . . . . . . K . . . . . . . K . . . . . . .      K: keyframes
    wanted             x                                 x
    decoded      d d n d                         d d n n d                           n: if another frame is made of it
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
from ..container import FFMPEG_ERRORS, start_ticks
from ..demux import samples_of
from ..source import Frame, Wants
from ..video import VideoTrack
from .packets import Packets, list_packets
from .seek import LOOKED_AT, FramesOrError, is_seekable

if TYPE_CHECKING:
    from av.packet import Packet

# A packet of these may be no picture, but only what others are made of.
MAY_SHOW_NOTHING = {"vp8"}
# Of so small a part of a file it takes less to decode all frames than to list all packets.
LEAST_SHARE = Fraction(1, 10)
# From so many packets on that are not needed, a file is read on elsewhere.
FAR = 50


class PacketMismatch(Exception):
    """What is decoded is not what the packets said, so that what is not decoded may be something else, too."""


def frames_wanted(track: VideoTrack, segment: Segment | None, wants: Wants) -> FramesOrError:
    """The frames of a track; those that nobody wants may come together as one, of which there is no picture. See
    `MediaSource.samples`. None at all: it is not sure that they are exact but where all are decoded.

    Where that shows later, they are read anew, and all are decoded.
    """
    if not track.container.is_local or not is_seekable(track) or track.codec in MAY_SHOW_NOTHING:
        return
    if segment and track.end_seconds and segment.share(track.start_seconds, track.end_seconds) < LEAST_SHARE:
        return
    packets = list_packets(track)
    if packets is None or len(packets.order) <= LOOKED_AT:
        return
    reached: Fraction | None = None
    with suppress(PacketMismatch, *FFMPEG_ERRORS), track.reopened() as again:
        try:
            for frame in _SparseReader(again, packets, wants).frames():
                yield frame
                reached = frame.end_seconds
            again.reached = reached
            yield from again.finish(packets.file_reached)
        except MediaError as error:
            yield error
        return
    if reached is None:
        return
    with track.reopened() as again:
        for sample in samples_of(again):
            if isinstance(sample, MediaError) or sample.end_seconds > reached:
                yield sample


@dataclass
class Run:
    """Packets to decode one after another: from a keyframe, `first`, to the one before `stop`."""

    first: int
    stop: int


def decode_ranges(packets: Packets, is_needed: bytearray) -> list[Run]:
    """Which packets are to be decoded, so that those which are needed can be.

    is_needed: for each packet, whether its frame is
    """
    runs: list[Run] = []
    is_joined = False  # the group after it cannot be decoded without this one
    for first, stop in itertools.pairwise(reversed([*packets.keyframes, len(packets.pts)])):
        first, stop = stop, first
        needed = is_needed.rfind(1, first, stop)
        if is_joined:
            runs[-1].first = first
        elif needed >= 0:
            runs.append(Run(first, needed + 1))
        # A frame that is decoded after a keyframe and shown before it may need others before it (an open GOP).
        is_joined = first > 0 and any(
            is_needed[k] and packets.pts[k] < packets.pts[first] for k in range(first, needed + 1)
        )
    return runs[::-1]


class _SparseReader:
    """One reading of a file's video for what is wanted of it."""

    def __init__(self, track: VideoTrack, packets: Packets, wants: Wants) -> None:
        self._track = track
        self._handle = track.container.handle
        self._packets = packets
        self._start = start_ticks(self._handle, track.stream)
        self._place = {packets.pts[k]: place for place, k in enumerate(packets.order)}  # by pts, in the order shown
        wanted = sorted(self._wanted(wants))
        # The last one tells whether there is all of it.
        places = sorted({*wanted, *self._looked_at(wanted), len(packets.order) - 1})
        self._is_needed = bytearray(len(packets.pts))
        for place in places:
            self._is_needed[packets.order[place]] = 1
        self._due = iter(places)  # what has to come yet
        self._demuxed: Iterator[Packet[Any]] = self._demux()
        self._at = 0  # the packet that comes next

    def frames(self) -> Iterator[Frame]:
        """Every frame once, or as part of one that nobody wants. Raises PacketMismatch, or FFmpeg's errors."""
        place, due = 0, next(self._due)  # of the frame that comes next, and of one that has to
        for run in decode_ranges(self._packets, self._is_needed):
            for decoded in self._decoded(run):
                found = -1 if decoded.pts is None else self._place.get(decoded.pts, -1)
                if not place <= found <= due or decoded.is_corrupt:
                    raise PacketMismatch
                if found > place:
                    yield self._unseen(place, found)
                yield self._seen(decoded, found)
                place, due = found + 1, next(self._due, len(self._place)) if found == due else due
        if place < len(self._place):
            raise PacketMismatch

    def _seen(self, decoded: VideoFrame, place: int) -> Frame:
        start = self._seconds(place)
        is_last = place + 1 == len(self._place)
        end = start + self._track.shown_for(decoded) if is_last else self._seconds(place + 1)
        return self._track.frame(decoded, start, end)

    def _unseen(self, place: int, until: int) -> Frame:
        def no_picture() -> Any:
            raise AssertionError(f"{self._track.container.location}: a frame is taken that nobody wanted")

        return Frame(self._seconds(place), self._seconds(until), no_picture)

    def _decoded(self, run: Run) -> Iterator[VideoFrame]:
        """What the packets of a run give, in the order shown, from its keyframe on."""
        decoded = self._decoded_from(run)
        if run.first:
            keyframe = self._packets.pts[run.first]
            first = next((frame for frame in decoded if frame.pts is None or frame.pts >= keyframe), None)
            if first is None or first.pts != keyframe or not first.key_frame:
                raise PacketMismatch  # it is none from which decoding can start
            yield first
        yield from decoded

    def _decoded_from(self, run: Run) -> Iterator[VideoFrame]:
        stream = self._track.stream
        context = stream.codec_context
        for packet in self._sent(run):
            is_dropped = self._packets.names_nonreference and not self._is_needed[self._at - 1]
            context.skip_frame = "NONREF" if is_dropped else "DEFAULT"
            yield from packet.decode()
        yield from stream.decode(None)
        context.flush_buffers()  # what follows begins with a keyframe

    def _sent(self, run: Run) -> Iterator[Packet[Any]]:
        packets = self._packets
        if run.first - self._at > FAR:
            self._handle.seek(packets.seek_ticks(run.first), stream=self._track.stream)
            self._demuxed = self._demux()
            # It may go further back than it has to, to packets that nobody is shown.
            landed = next((packet for packet in self._demuxed if packet.pts in self._place), None)
            if landed is None or landed.pts is None:
                raise PacketMismatch
            self._at = packets.order[self._place[landed.pts]]
            self._demuxed = itertools.chain([landed], self._demuxed)
        if self._at > run.first:
            raise PacketMismatch
        for packet in self._demuxed:
            if packet.pts != packets.pts[self._at]:
                raise PacketMismatch  # the file is another than it was
            self._at += 1
            if self._at > run.first:
                yield packet
            if self._at == run.stop:
                return
        raise PacketMismatch

    def _demux(self) -> Iterator[Packet[Any]]:
        return (packet for packet in self._handle.demux(self._track.stream) if packet.size)

    def _wanted(self, wants: Wants) -> Iterator[int]:
        """The places of the frames that are wanted, but for the last one, whose end is not known yet."""
        parts = [(0, len(self._place) - 1)]
        while parts:
            start, stop = parts.pop()
            if start == stop or not wants(self._seconds(start), self._seconds(stop)):
                continue
            if stop - start == 1:
                yield start
            else:
                middle = (start + stop) // 2
                parts += [(start, middle), (middle, stop)]

    def _looked_at(self, wanted: list[int]) -> Iterator[int]:
        """The first frames from where decoding starts, by which it shows whether it gives what the packets say."""
        packets = self._packets
        first = packets.order[wanted[0]] if wanted else 0
        keyframe = max(keyframe for keyframe in packets.keyframes if keyframe <= first)
        for pts in packets.pts[keyframe : keyframe + LOOKED_AT]:
            if pts in self._place and (not keyframe or pts >= packets.pts[keyframe]):
                yield self._place[pts]

    def _seconds(self, place: int) -> Fraction:
        ticks = self._packets.pts[self._packets.order[place]]
        return (ticks - self._start) * Fraction(self._track.stream.time_base)
