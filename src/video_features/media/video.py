"""Frames of video, decoded by PyAV."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any, cast

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter

from ..errors import MediaError
from .container import FFMPEG_ERRORS, Container, broken, start_ticks
from .source import RGB, Frame, TrackRecord
from .timestamps import LONGEST_GAP_SECONDS, DisplayTimes
from .track import MISSING_SECONDS, FileTrack

# (a, b, c, d): a player shows the stored pixel (x, y) at (a·x + c·y, b·x + d·y).
Matrix = tuple[int, int, int, int]
# Of these FFmpeg has the end from the timestamps themselves, or from the rate.
WITHOUT_STATED_END = {"avi", "mpeg", "mpegts"}
SIDE_DATA_TYPES = 64  # more than FFmpeg has: 32 in version 8


class VideoTrack(FileTrack[Frame]):
    """A stream of video. See `FrameTrack`."""

    kind = "video"
    nothing = "no frame"

    def __init__(self, container: Container, stream: Any) -> None:
        super().__init__(container, stream)
        self.fps: Fraction = stream.average_rate or stream.guessed_rate or Fraction(25)
        self._times = DisplayTimes(stream.time_base or 1 / self.fps, start_ticks(container.handle, stream))
        self._held: tuple[VideoFrame, Fraction] | None = None  # a frame and its start, until the next one's is known
        # Those that no thread is using: to share one would be to wait for it. No thread's own: a process that is
        # forked frees what other threads had, and would wait for ever for the threads of FFmpeg in it.
        self._reformatters: deque[VideoReformatter] = deque()
        self._display: tuple[int, Matrix] | None = None  # and the rotation for which it was read

    @property
    def codec(self) -> str:
        """By FFmpeg's name."""
        return str(self.stream.codec_context.codec.canonical_name)

    @property
    def is_length_stated(self) -> bool:
        return bool(self.stream.frames)

    @property
    def are_times_doubtful(self) -> bool:
        """Whether its timestamps so far are not simply those at which its frames are shown, but were repaired."""
        return self._times.are_doubtful

    def frame_count(self) -> int:
        if self.stream.frames:
            return int(self.stream.frames)
        if self.end_seconds is None:
            with self.reopened() as again:
                packets = again.container.handle.demux(again.stream)
                try:
                    count = sum(1 for packet in packets if packet.size)
                except FFMPEG_ERRORS as error:
                    raise broken(self.container.location, None, error) from error
            if not count:
                raise MediaError(f"{self.container.location}: no frame in its video stream")
            return count
        return max(1, round((self.end_seconds - self.start_seconds) * self.fps))

    def describe(self) -> TrackRecord:
        return TrackRecord(fps=float(self.fps))

    def _samples(self, decoded: VideoFrame) -> Iterator[Frame]:
        """The frame before: each is shown until the next one starts."""
        start = self._times.seconds(decoded.pts, decoded.dts, expected=self.reached or Fraction(0))
        if self._held is not None:
            yield self.frame(*self._held, start)
        self._held, self.reached = (decoded, start), start + self.shown_for(decoded)

    def _rest(self) -> Iterator[Frame]:
        if self._held is not None and self.reached is not None:
            yield self.frame(*self._held, self.reached)

    def shown_for(self, frame: VideoFrame) -> Fraction:
        """How many seconds, as it says itself."""
        if frame.duration and self.stream.time_base:
            return Fraction(frame.duration * self.stream.time_base)
        return 1 / self.fps

    def frame(self, decoded: VideoFrame, start: Fraction, end: Fraction) -> Frame:
        """What was decoded, shown from `start` to `end`, in seconds. Raises MediaError where that cannot be."""
        self._check_shown(start, end)
        matrix = self._matrix(decoded)
        return Frame(start, end, lambda: self._to_rgb(decoded, matrix))

    def _matrix(self, decoded: VideoFrame) -> Matrix:
        # It is read anew only where the rotation changes: reading it keeps the frame in memory until the next garbage
        # collection (PyAV's side data and frame hold each other).
        if self._display is None or self._display[0] != decoded.rotation:
            self._display = (decoded.rotation, _display_matrix(decoded))
        return self._display[1]

    def _check_shown(self, start: Fraction, end: Fraction) -> None:
        """Raise MediaError where a frame is shown for so long that a constant rate would repeat it with hardly an end,
        and the file's header knows of no such length."""
        if end - start <= LONGEST_GAP_SECONDS:
            return
        stated = None if self.container.format in WITHOUT_STATED_END else self.end_seconds
        if stated is None or end > stated + MISSING_SECONDS:
            raise MediaError(
                f"{self.container.location}: by its timestamps one picture is shown from {float(start):.2f} s to "
                f"{float(end):.2f} s; is it damaged?"
            )

    def _to_rgb(self, decoded: VideoFrame, matrix: Matrix) -> RGB:
        # BT.601 whatever the stream's tag says: so does OpenCV before version 5, and with it the reference. PyAV's own
        # default depends on its version.
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
    except ValueError:  # there is something beside it that PyAV has no name for, such as EXIF
        matrix = _without_the_unknown(decoded).side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    return a, b, c, d


def _without_the_unknown(decoded: VideoFrame) -> VideoFrame:
    """The same frame without the side data of which PyAV cannot make anything, nor of the rest where they are there."""
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
    """The picture turned or mirrored as its display matrix says, by quarter turns."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
