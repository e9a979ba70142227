"""A video's packets, listed without being decoded: when frames are shown, and without which others each can be made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..container import FFMPEG_ERRORS, latest, note_end
from ..timestamps import LONGEST_GAP_SECONDS
from ..video import VideoTrack
from .seek import are_times_of_decoding

if TYPE_CHECKING:
    from av.packet import Packet

# Their decoders tell frames of which no other is made.
NAME_NONREFERENCE = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"}


@dataclass
class Packets:
    """The packets of a file's video in the order of decoding, where their times are sure.

    pts: when each one's frame is shown, in ticks of the stream
    dts: when each is decoded; None where the container does not say
    keyframes: those from which decoding can start; the first is 0. Of frames that are decoded after one, none is made
        of what was before it, but those that are shown before it
    order: those that are shown, in this order; their times differ
    names_nonreference: whether FFmpeg's decoder can tell of which frames no other is made
    file_reached: the end of the last packet of any stream, in seconds
    """

    pts: list[int] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    keyframes: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    names_nonreference: bool = False
    file_reached: Fraction = Fraction(0)

    def seek_ticks(self, packet: int) -> int:
        """Where to go for a packet, as containers may seek by either of its times."""
        dts = self.dts[packet]
        return self.pts[packet] if dts is None else min(self.pts[packet], dts)


def list_packets(track: VideoTrack) -> Packets | None:
    """The packets of a track, read independently of it. None: when, or of what, frames are shown is not sure."""
    try:
        with track.reopened() as again:
            return _list(again)
    except FFMPEG_ERRORS:
        return None


def _list(track: VideoTrack) -> Packets | None:
    handle, stream, codec = track.container.handle, track.stream, track.codec
    found = Packets(names_nonreference=codec in NAME_NONREFERENCE)
    units = _Units.of(codec, stream.codec_context.extradata)
    shown, parameters, ended = [], [], False
    ends: dict[Any, int] = {}  # of the packets so far, by stream, in its ticks
    # The others matter only where the video does not state its own end.
    for packet in handle.demux(*([stream] if track.stated_end() is not None else [])):
        note_end(ends, packet)
        if packet.stream is not stream:
            continue
        if not packet.size:
            ended = True
            continue
        if ended or packet.pts is None or packet.is_corrupt or packet.has_sidedata("new_extradata"):
            return None
        place = len(found.pts)
        found.pts.append(packet.pts)
        found.dts.append(packet.dts)
        if not packet.is_discard:
            shown.append(place)
        if packet.is_keyframe and (not packet.is_discard or not place):
            found.keyframes.append(place)
            parameters.append(units.parameters(packet) if units else b"")
        if codec == "hevc" and (units is None or not units.is_of_base_layer(packet)):
            found.names_nonreference = False  # of the frames of a layer, those of a higher one may be made
    if not found.pts or not stream.time_base:
        return None
    found.file_reached = latest(handle, ends)
    found.order = sorted(shown, key=found.pts.__getitem__)
    is_sure = _are_times_sure(stream, found) and _are_groups_sure(found)
    # Parameters stay until others come: the same ones have to come with each group, or none at all.
    return found if is_sure and len(set(parameters)) == 1 else None


def _are_times_sure(stream: Any, packets: Packets) -> bool:
    """Whether frames are shown when their packets say: at times that differ, and in such an order as that can be."""
    if not packets.order or are_times_of_decoding(stream, packets.pts):
        return False
    times = [packets.pts[k] for k in packets.order]
    longest = LONGEST_GAP_SECONDS / Fraction(stream.time_base)
    if not all(0 < after - before <= longest for before, after in pairwise(times)):
        return False
    # What an edit list leaves out at the beginning and the end.
    left_out = set(range(len(packets.pts))).difference(packets.order)
    return all(not times[0] <= packets.pts[k] <= times[-1] for k in left_out)


def _are_groups_sure(packets: Packets) -> bool:
    """Whether a keyframe is shown after all that is decoded before it, and what follows after the keyframe before."""
    if not packets.keyframes or packets.keyframes[0] != 0:
        return False
    groups = list(pairwise([*packets.keyframes, len(packets.pts)]))
    latest = None
    for (before, _), (first, stop) in zip([(0, 0), *groups], groups, strict=False):
        pts = packets.pts[first:stop]
        if first and (latest is None or pts[0] <= latest or min(pts) <= packets.pts[before]):
            return False
        latest = max(pts) if latest is None else max(latest, *pts)
    return True


@dataclass
class _Units:
    """How the packets of a codec are made up of units, each after its length.

    length_bytes: of a unit's length
    shift: of a unit's type in its first byte
    kinds: the types that are parameters
    """

    length_bytes: int
    shift: int
    mask: int
    kinds: tuple[int, ...]
    pictures: range

    @classmethod
    def of(cls, codec: str, header: bytes | None) -> _Units | None:
        """header: the codec's, `avcC` or `hvcC`; None where it is no such codec, or has none."""
        if not header or header[0] != 1:
            return None
        if codec == "h264" and len(header) > 4:
            return cls((header[4] & 3) + 1, 0, 31, (7, 8), range(1, 6))
        if codec == "hevc" and len(header) > 21:
            return cls((header[21] & 3) + 1, 1, 63, (32, 33, 34), range(32))
        return None

    def parameters(self, packet: Packet[Any]) -> bytes:
        """Those that come with a packet, before its picture."""
        return b"".join(unit for kind, unit in self._units(bytes(packet)) if kind in self.kinds)

    def is_of_base_layer(self, packet: Packet[Any]) -> bool:
        """Whether the first unit of HEVC's is of the lowest temporal layer, and with it the whole packet."""
        data = memoryview(packet)
        return len(data) > self.length_bytes + 1 and data[self.length_bytes + 1] & 7 == 1

    def _units(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at + self.length_bytes < len(data):
            start = at + self.length_bytes
            at = start + int.from_bytes(data[at:start], "big")
            kind = data[start] >> self.shift & self.mask
            if kind in self.pictures:
                return
            yield kind, data[start:at]
