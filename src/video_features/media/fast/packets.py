"""Lists the packets of a video without decoding them, with display times and decoding dependencies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

from ..container import FFMPEG_ERRORS, latest_seconds, note_end, packets_of, start_ticks
from ..timestamps import LONGEST_GAP_SECONDS, Shown
from ..video import UNLISTED, VideoTrack
from .seek import are_decoding_times

if TYPE_CHECKING:
    from av.packet import Packet

# For these codecs, FFmpeg's decoder can tell which frames no other frame refers to.
NONREFERENCE_CODECS = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"}


@dataclass
class Packets:
    """The packets of a video stream in decoding order, if their display times are certain.

    pts: display time of each packet's frame, in ticks of the stream
    dts: decoding time of each packet, in ticks; None if the container does not store it
    keyframes: indices of the packets at which decoding can start; the first is 0. Frames that are decoded after a
        keyframe do not depend on frames before it, unless they are shown before it (an open GOP)
    order: indices of the packets whose frames are shown, in display order; their display times are distinct
    names_nonreference: whether FFmpeg's decoder can tell which frames no other frame refers to
    file_reached: the end of the last packet of any stream, in seconds
    last_duration: how long the last frame is shown, in seconds; 0 if that is not stated
    can_skip: whether the dependencies of the frames are certain too, so that groups of pictures can be skipped
    """

    pts: list[int] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    keyframes: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    names_nonreference: bool = False
    file_reached: Fraction = Fraction(0)
    last_duration: Fraction = Fraction(0)
    can_skip: bool = False

    def shown(self, track: VideoTrack) -> Shown:
        """Return when the frames are shown."""
        starts = _Starts(self, start_ticks(track.container.handle, track.stream), Fraction(track.stream.time_base))
        return Shown(starts, starts[-1] + (self.last_duration or 1 / track.fps))

    def seek_ticks(self, packet: int) -> int:
        """Return the tick to seek to for a packet. Containers may seek by PTS or by DTS, so this is the smaller one."""
        dts = self.dts[packet]
        return self.pts[packet] if dts is None else min(self.pts[packet], dts)


class _Starts(Sequence[Fraction]):
    """The start of each frame in seconds, in display order, computed when asked for: a long video has many frames."""

    def __init__(self, packets: Packets, first_tick: int, tick: Fraction) -> None:
        self._packets, self._first_tick, self._tick = packets, first_tick, tick

    def __len__(self) -> int:
        return len(self._packets.order)

    @overload
    def __getitem__(self, index: int) -> Fraction: ...

    @overload
    def __getitem__(self, index: slice) -> list[Fraction]: ...

    def __getitem__(self, index: int | slice) -> Fraction | list[Fraction]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        return (self._packets.pts[self._packets.order[index]] - self._first_tick) * self._tick


def list_packets(track: VideoTrack) -> Packets | None:
    """List the packets of a track in a separate pass, once. Returns None if the display times are not certain.

    Raises MediaError if the display times are implausible.
    """
    if track.listing is UNLISTED:
        track.listing = None
        with suppress(*FFMPEG_ERRORS), track.reopened() as again:
            track.listing = _list(again)
    found: Packets | None = track.listing
    if found is not None:
        track.compare(found.shown(track).extent(track.fps), packets=len(found.pts))
    return found


def _list(track: VideoTrack) -> Packets | None:
    handle, stream, codec = track.container.handle, track.stream, track.codec
    found = Packets(names_nonreference=codec in NONREFERENCE_CODECS)
    nal_units = _NalUnits.from_header(codec, stream.codec_context.extradata)
    shown, durations, parameter_sets, ended = [], [], [], False
    ends: dict[Any, int] = {}  # {stream: end of the packets so far, in ticks of the stream}
    # Read the other streams too if the video states no end, because only they then reveal a truncated file.
    for packet in packets_of(handle, *([stream] if track.stated_end() is not None else [])):
        note_end(ends, packet)
        if packet.stream is not stream:
            continue
        if not packet.size:
            ended = True
            continue
        if ended or packet.pts is None or packet.is_corrupt or packet.has_sidedata("new_extradata"):
            return None
        index = len(found.pts)
        found.pts.append(packet.pts)
        found.dts.append(packet.dts)
        durations.append(packet.duration or 0)
        if not packet.is_discard:
            shown.append(index)
        if packet.is_keyframe and (not packet.is_discard or not index):
            found.keyframes.append(index)
            parameter_sets.append(nal_units.parameter_sets(packet) if nal_units else b"")
        if codec == "hevc" and (nal_units is None or not nal_units.is_of_base_layer(packet)):
            found.names_nonreference = False  # frames of a higher temporal layer may refer to such a frame
    if not found.pts or not stream.time_base:
        return None
    found.file_reached = latest_seconds(handle, ends)
    found.order = sorted(shown, key=found.pts.__getitem__)
    found.last_duration = durations[found.order[-1]] * Fraction(stream.time_base) if found.order else Fraction(0)
    # Parameter sets apply until new ones arrive, so groups can be skipped only if all carry the same ones, or none.
    found.can_skip = _are_groups_certain(found) and len(set(parameter_sets)) == 1
    return found if _are_times_certain(stream, found) else None


def _are_times_certain(stream: Any, packets: Packets) -> bool:
    """Return True if frames are shown at the PTS of their packets: distinct times, in a plausible order."""
    if not packets.order or are_decoding_times(stream, packets.pts):
        return False
    times = [packets.pts[k] for k in packets.order]
    longest = LONGEST_GAP_SECONDS / Fraction(stream.time_base)
    if not all(0 < after - before <= longest for before, after in pairwise(times)):
        return False
    # An edit list may leave out frames at the start and at the end, but not in between.
    left_out = set(range(len(packets.pts))).difference(packets.order)
    return all(not times[0] <= packets.pts[k] <= times[-1] for k in left_out)


def _are_groups_certain(packets: Packets) -> bool:
    """Return True if each keyframe is shown after all packets before it, and its group after the previous keyframe."""
    if not packets.keyframes or packets.keyframes[0] != 0:
        return False
    groups = list(pairwise([*packets.keyframes, len(packets.pts)]))
    latest_pts = None
    for (before, _), (first, stop) in zip([(0, 0), *groups], groups, strict=False):
        pts = packets.pts[first:stop]
        if first and (latest_pts is None or pts[0] <= latest_pts or min(pts) <= packets.pts[before]):
            return False
        latest_pts = max(pts) if latest_pts is None else max(latest_pts, *pts)
    return True


@dataclass
class _NalUnits:
    """The NAL units in the packets of H.264 and HEVC. Each unit follows its length.

    length_bytes: size of the length field, in bytes
    shift, mask: how to extract the type of a unit from its first byte
    parameter_types: the types of units that hold parameter sets
    picture_types: the types of units that hold picture data
    """

    length_bytes: int
    shift: int
    mask: int
    parameter_types: tuple[int, ...]
    picture_types: range

    @classmethod
    def from_header(cls, codec: str, header: bytes | None) -> _NalUnits | None:
        """Return the layout of the NAL units, or None if the codec or the header has none.

        header: the codec's configuration, `avcC` or `hvcC`
        """
        if not header or header[0] != 1:
            return None
        if codec == "h264" and len(header) > 4:
            return cls((header[4] & 3) + 1, 0, 31, (7, 8), range(1, 6))
        if codec == "hevc" and len(header) > 21:
            return cls((header[21] & 3) + 1, 1, 63, (32, 33, 34), range(32))
        return None

    def parameter_sets(self, packet: Packet[Any]) -> bytes:
        """Return the parameter sets in a packet that come before its picture data."""
        return b"".join(unit for unit_type, unit in self._split(bytes(packet)) if unit_type in self.parameter_types)

    def is_of_base_layer(self, packet: Packet[Any]) -> bool:
        """Return True if the first HEVC unit of a packet, and so the packet, is of the lowest temporal layer."""
        data = memoryview(packet)
        return len(data) > self.length_bytes + 1 and data[self.length_bytes + 1] & 7 == 1

    def _split(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the type and the bytes of each unit before the picture data."""
        position = 0
        while position + self.length_bytes < len(data):
            start = position + self.length_bytes
            position = start + int.from_bytes(data[position:start], "big")
            unit_type = data[start] >> self.shift & self.mask
            if unit_type in self.picture_types:
                return
            yield unit_type, data[start:position]
