"""Decodes video frames with PyAV."""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter

from ..errors import MediaError, counted
from .container import FFMPEG_ERRORS, Container, decoding_error, packets_of, start_ticks
from .pixels import Deinterlacer, square_pixels
from .source import BY_DEFAULT, RGB, Frame, ReadOptions, TrackRecord
from .timestamps import LONGEST_GAP_SECONDS, DisplayTimes, Extent
from .track import MISSING_SECONDS, FileTrack

if TYPE_CHECKING:
    from av.packet import Packet

# A display matrix (a, b, c, d): players show the stored pixel (x, y) at (a·x + c·y, b·x + d·y).
Matrix = tuple[int, int, int, int]
# For these formats FFmpeg derives the end from the timestamps or from the frame rate.
WITHOUT_STATED_END = {"avi", "mpeg", "mpegts"}
UNLISTED: Any = object()  # the packets of a stream have not been listed yet
# A file with fewer frames per second than this, and for a longer time than its header states, is damaged.
MIN_PLAUSIBLE_FPS = 5
RATE_TOLERANCE = Fraction(1, 100)  # of rates that count as the same
MAX_DECODER_PIXELS = 300_000_000  # in all frames that are decoded at once; half a gigabyte in 8 bits
SIDE_DATA_TYPES = 64  # an upper bound: FFmpeg 8 has 32 types


class VideoTrack(FileTrack[Frame]):
    """A video stream. See `FrameTrack`."""

    kind = "video"
    sample_noun = "frame"

    def __init__(self, container: Container, stream: Any, options: ReadOptions = BY_DEFAULT) -> None:
        super().__init__(container, stream, options)
        self.fps: Fraction = stream.average_rate or stream.guessed_rate or Fraction(25)  # `compare` may correct it
        self.listing: Any = UNLISTED  # the packets of the stream; see fast/packets.py
        self.is_read_whole = True  # False if only some of the packets are decoded
        self._packets = 0
        self._extent = Extent(self.fps)
        self._has_fields = False  # True if a frame is interlaced; each of its fields may be in a packet of its own
        # Each of FFmpeg's decoder threads holds a frame. FFmpeg starts one more than there are cores, at most 16.
        threads = MAX_DECODER_PIXELS // max(1, stream.codec_context.width * stream.codec_context.height)
        if threads < min(16, (os.cpu_count() or 1) + 1):
            stream.codec_context.thread_count = max(1, threads)
        self._times = DisplayTimes(stream.time_base or 1 / self.fps, start_ticks(container.handle, stream))
        # The last frame and its start. It is held back, because it ends where the next frame starts.
        self._pending: tuple[VideoFrame, Fraction] | None = None
        # Reformatters that no thread is using. Threads do not share one, because they would wait for each other. They
        # are not thread-local either: a forked process frees the thread-local objects of the other threads, and would
        # wait forever for FFmpeg's worker threads, which do not exist in that process.
        self._reformatters: deque[VideoReformatter] = deque()
        self._display: tuple[int, Matrix] | None = None  # rotation, and the matrix read for it
        self._deinterlacer = Deinterlacer(container.location) if options.deinterlace else None
        self._square_pixels = square_pixels(stream, container.location) if options.square_pixels else None

    @property
    def codec(self) -> str:
        """FFmpeg's name for the codec."""
        return str(self.stream.codec_context.codec.canonical_name)

    @property
    def is_length_stated(self) -> bool:
        # In AVI, B-frames may be stored with empty packets, which the header counts.
        is_uncertain = self.container.format == "avi" and self.stream.codec_context.has_b_frames
        return bool(self.stream.frames or self.indexed) and not is_uncertain

    @property
    def has_constant_rate(self) -> bool:
        average, guessed = self.stream.average_rate, self.stream.guessed_rate
        return bool(average and guessed) and abs(average - guessed) <= RATE_TOLERANCE * guessed

    @property
    def are_times_unreliable(self) -> bool:
        """True if a timestamp so far was missing or out of order, so that display times had to be repaired."""
        return self._times.are_unreliable

    def frame_count(self) -> int:
        if self.indexed is not None:
            return self.indexed.count
        if self.stream.frames:
            return int(self.stream.frames)
        if self.end_seconds is None:
            return self._count_packets()
        return max(1, round((self.end_seconds - self.start_seconds) * self.fps))

    def _count_packets(self) -> int:
        """Return the number of packets, and take the frame rate from their times, as the file states no length."""
        ticks: list[int] = []
        with self.reopened() as again:
            packets = packets_of(again.container.handle, again.stream)
            try:
                ticks += (packet.pts or 0 for packet in packets if packet.size)
            except FFMPEG_ERRORS as error:
                raise decoding_error(self.container.location, None, error) from error
        count = len(ticks)
        if not count:
            raise MediaError(f"{self.container.location}: no frame in the video stream")
        if (seconds := (max(ticks) - min(ticks)) * self._tick) > 0:
            self.fps = ((count - 1) / seconds).limit_denominator(1001000)
        return count

    def describe(self) -> TrackRecord:
        return TrackRecord(fps=float(self.fps), stream=self.stream.index)

    def decode(self, packet: Packet[Any]) -> Iterator[Frame]:
        self._packets += bool(packet.size)
        yield from super().decode(packet)

    def finish(self, file_reached: Fraction) -> Iterator[Frame]:
        yield from super().finish(file_reached)
        if self.is_read_whole and self.reached is not None:
            self._extent.end = self.reached
            self.compare(self._extent, packets=self._packets)

    def compare(self, shown: Extent, *, packets: int) -> None:
        """Warn where the header states something else than what the file shows, and correct the frame rate.

        packets: the number of packets with a frame
        Raises MediaError if the timestamps are implausible.
        """
        frames, fps, stated = shown.frames, self.fps, self.stream.frames
        if not shown.seconds_without_gaps > 0:
            return
        found = []
        lengths = shown.seconds, shown.seconds_without_gaps
        if all(abs(frames - fps * length) > max(2, frames // 50) for length in lengths):
            self.fps = (frames / shown.seconds_without_gaps).limit_denominator(1001000)
            # Without a stated end, the rate was FFmpeg's guess. A varying rate is often stated a little wrong.
            if self.end_seconds is not None and abs(self.fps - fps) > fps / 10:
                found.append(f"{float(fps):.6g} frames per second, and they average {float(self.fps):.6g}")
        if stated and abs(stated - frames) > 2:
            found.append(f"{counted(stated, 'frame')}, and {frames} are shown")
        length = self._stated_length()
        if length is not None and shown.seconds > length + 2 / fps:
            found.append(f"a length of {float(length):.2f} s, and the frames last {float(shown.seconds):.2f} s")
            seconds = shown.seconds_without_gaps
            if seconds > length + MISSING_SECONDS and frames < MIN_PLAUSIBLE_FPS * seconds:
                raise MediaError(
                    f"{self.container.location}: the header of the video states {found[-1]}, although there are only "
                    f"{frames}; is the file damaged?"
                )
        hidden = packets - frames
        if found:
            self.container.warnings.add(f"the header of the video states {'; '.join(found)}")
        elif hidden > max(2, packets // 10) and not (self._has_fields and packets <= 2 * frames + 2):
            self.container.warnings.add(f"{hidden} of {packets} packets of the video gave no frame to show")

    def _stated_length(self) -> Fraction | None:
        """Return the length of the video in seconds as its header states it, even where the index differs."""
        if self.container.format in WITHOUT_STATED_END:
            return None
        if self.indexed is not None and self.stream.duration:
            return Fraction(self.stream.duration * self._tick)
        return None if self.end_seconds is None else self.end_seconds - self.start_seconds

    def _to_samples(self, decoded: VideoFrame) -> Iterator[Frame]:
        self._has_fields |= bool(decoded.interlaced_frame)
        for picture in [decoded] if self._deinterlacer is None else self._deinterlacer.push(decoded):
            yield from self._previous(picture)

    def _previous(self, decoded: VideoFrame) -> Iterator[Frame]:
        """Yield the previous frame. Its end is known only now, because it is shown until this frame starts."""
        start = self._times.seconds(decoded.pts, decoded.dts, expected=self.reached or Fraction(0))
        self._extent.add(start)
        if self._pending is not None:
            yield self.frame(*self._pending, start)
        self._pending, self.reached = (decoded, start), start + self.frame_duration(decoded)

    def _flush(self) -> Iterator[Frame]:
        for picture in [] if self._deinterlacer is None else self._deinterlacer.flush():
            yield from self._previous(picture)
        if self._pending is not None and self.reached is not None:
            yield self.frame(*self._pending, self.reached)

    def frame_duration(self, frame: VideoFrame) -> Fraction:
        """Return the duration of a frame in seconds as the frame states it, or 1 / fps."""
        if frame.duration and self.stream.time_base:
            return Fraction(frame.duration * self.stream.time_base)
        return 1 / self.fps

    def frame(self, decoded: VideoFrame, start: Fraction, end: Fraction) -> Frame:
        """Return a decoded frame that is shown from `start` to `end` (seconds).

        Raises MediaError if the frame would be shown for an implausibly long time.
        """
        self._check_duration(start, end)
        matrix = self._matrix(decoded)
        return Frame(start, end, lambda: self._to_rgb(decoded, matrix), (decoded.height, decoded.width))

    def _matrix(self, decoded: VideoFrame) -> Matrix:
        # Read the matrix again only if the rotation changes. Reading it keeps the frame in memory until the next
        # garbage collection, because PyAV's side data and frame refer to each other.
        if self._display is None or self._display[0] != decoded.rotation:
            self._display = (decoded.rotation, _display_matrix(decoded))
        return self._display[1]

    def _check_duration(self, start: Fraction, end: Fraction) -> None:
        """Raise MediaError if a frame is shown for more than an hour and ends beyond the end that the header states.

        A constant rate would repeat such a frame many thousands of times.
        """
        if end - start <= LONGEST_GAP_SECONDS:
            return
        stated = None if self.container.format in WITHOUT_STATED_END else self.end_seconds
        if stated is None or end > stated + MISSING_SECONDS:
            raise MediaError(
                f"{self.container.location}: according to its timestamps, one picture is shown from "
                f"{float(start):.2f} s to {float(end):.2f} s; is the file damaged?"
            )

    def _to_rgb(self, decoded: VideoFrame, matrix: Matrix) -> RGB:
        if self._square_pixels is not None:
            is_turned = abs(matrix[1]) > abs(matrix[0])
            resized: Any = self._square_pixels.to_rgb(decoded, is_turned=is_turned).to_ndarray()
            return np.ascontiguousarray(_as_displayed(resized, matrix))
        # Always BT.601, regardless of the stream's colour tags, like OpenCV before version 5 and therefore like the
        # reference implementation. PyAV's default depends on the PyAV version.
        try:
            reformatter = self._reformatters.pop()
        except IndexError:
            reformatter = VideoReformatter()
        converted: Any = reformatter.reformat(
            decoded, format="rgb24", src_colorspace=Colorspace.ITU601, dst_colorspace=Colorspace.ITU601
        )
        self._reformatters.append(reformatter)
        rgb: RGB = converted.to_ndarray()
        return np.ascontiguousarray(_as_displayed(rgb, matrix))


def _display_matrix(decoded: VideoFrame) -> Matrix:
    try:
        matrix: Any = decoded.side_data.get("DISPLAYMATRIX")
    except ValueError:  # the frame has side data that PyAV does not know, such as EXIF
        matrix = _without_unknown_side_data(decoded).side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    return a, b, c, d


def _without_unknown_side_data(decoded: VideoFrame) -> VideoFrame:
    """Return the frame without side data of unknown types, whose presence keeps PyAV from reading any side data."""
    graph = Graph()
    nodes = [graph.add_buffer(width=decoded.width, height=decoded.height, format=decoded.format, time_base=Fraction(1))]
    for number in set(range(SIDE_DATA_TYPES)) - {known.value for known in Type}:
        nodes.append(graph.add("sidedata", f"mode=delete:type={number}"))
    nodes.append(graph.add("buffersink"))
    for node, following in pairwise(nodes):
        node.link_to(following)
    graph.configure()
    graph.push(decoded)
    return cast(VideoFrame, graph.pull())


def _as_displayed(rgb: RGB, matrix: Matrix) -> RGB:
    """Rotate an image by quarter turns, and mirror it, as its display matrix states."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
