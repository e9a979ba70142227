"""Video files, local or remote, decoded by PyAV (FFmpeg's libraries come in its wheel)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import av
import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from av.video.stream import VideoStream

from ..errors import MediaError
from .frame import RGB, Frame
from .timestamps import DisplayTimes

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

# A stream that ends this much before its stated duration is taken for truncated.
MISSING_SECONDS = 1.0


class VideoFile:
    """One video stream of a file: any container and codec that FFmpeg reads. See `FrameSource`.

    file: what PyAV opens: `file:PATH`, or an open binary file
    Raises MediaError if FFmpeg cannot read the file or there is no video in it.
    """

    def __init__(
        self, file: str | IO[bytes], *, name: str, location: str, address: str, size_bytes: int | None
    ) -> None:
        self.name = name
        self.location = location
        self.address = address
        self.size_bytes = size_bytes
        self._file = file
        self._container = self._open()
        try:
            self._stream = self._picture_stream()
        except MediaError:
            self._container.close()
            raise
        self.fps: Fraction = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self._reformatter = VideoReformatter()
        self._display: tuple[int, tuple[int, int, int, int]] | None = None  # rotation, display matrix

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()
        if not isinstance(self._file, str):
            self._file.close()

    @property
    def start_seconds(self) -> Fraction:
        if self._stream.start_time is None or self._stream.time_base is None:
            return Fraction(0)
        return self._stream.start_time * self._stream.time_base - self._container_start()

    @property
    def end_seconds(self) -> Fraction | None:
        return self._stated_end() or self._container_end()

    @property
    def is_length_stated(self) -> bool:
        return bool(self._stream.frames)

    def frame_count(self) -> int:
        if self._stream.frames:
            return self._stream.frames
        if self.end_seconds is None:
            return self._count_packets()
        return max(1, round((self.end_seconds - self.start_seconds) * self.fps))

    def frames(self) -> Iterator[Frame]:
        """Every frame once, in the order shown; each is shown until the next one starts."""
        times = DisplayTimes(self._stream.time_base or 1 / self.fps, self._start_ticks(self._stream))
        held: VideoFrame | None = None
        start = end = Fraction(0)
        for decoded in self._decoded():
            following = times.seconds(decoded.pts, decoded.dts, expected=end)
            if held is not None:
                yield self._frame(held, start, following)
            held, start, end = decoded, following, following + self._shown_for(decoded)
        if held is None:
            raise MediaError(f"{self.location}: no frame in its video stream could be decoded")
        yield self._frame(held, start, end)
        self._check_reached(end)

    def _open(self) -> InputContainer:
        try:
            return av.open(self._file, mode="r", metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(f"{self.location}: not a video that FFmpeg can read ({_reason(error)})") from error

    def _picture_stream(self) -> VideoStream:
        covers = av.stream.Disposition.attached_pic
        for stream in self._container.streams.video:
            if stream.disposition & covers:
                continue  # a song's cover, not a video
            if stream.codec_context is None:
                raise MediaError(f"{self.location}: FFmpeg has no decoder for its video stream")
            stream.thread_type = "AUTO"
            return stream
        kinds = sorted({stream.type for stream in self._container.streams})
        raise MediaError(f"{self.location}: no video stream in it, only {', '.join(kinds) or 'nothing'}")

    def _count_packets(self) -> int:
        at = None if isinstance(self._file, str) else self._file.tell()
        if not isinstance(self._file, str):
            self._file.seek(0)
        with self._open() as container:
            count = sum(1 for packet in container.demux(container.streams[self._stream.index]) if packet.size)
        if not isinstance(self._file, str):
            self._file.seek(at or 0)
        return count

    def _decoded(self) -> Iterator[VideoFrame]:
        # All streams are read, so that a video shorter than its sound is not taken for truncated.
        self._reached = Fraction(0)
        reached_seconds = 0.0
        try:
            for packet in self._container.demux():
                if packet.pts is not None:
                    end = self._packet_end(packet.stream, packet.pts + (packet.duration or 0))
                    self._reached = max(self._reached, end)
                if packet.stream is self._stream:  # not its index: the last packet, which flushes, has none
                    for frame in packet.decode():
                        assert isinstance(frame, VideoFrame)
                        reached_seconds = frame.time or reached_seconds
                        yield frame
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(
                f"{self.location}: decoding failed after {reached_seconds:.2f} s ({_reason(error)}); "
                "is it damaged or truncated?"
            ) from error

    def _stated_end(self) -> Fraction | None:
        """When the video stream ends, as the file's header says; the container's start is 0."""
        stream = self._stream
        if self._container.format.name == "avi" and stream.frames:
            return stream.frames / self.fps  # its duration is guessed anew where the file is cut
        if stream.duration is not None and stream.time_base is not None:
            return self.start_seconds + stream.duration * stream.time_base
        try:  # Matroska: a tag with the end, such as 00:00:05.312000000, on the container's own clock
            hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
            return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds) - self._container_start()
        except ValueError:
            return None

    def _container_end(self) -> Fraction | None:
        return None if self._container.duration is None else Fraction(self._container.duration, av.time_base)

    def _container_start(self) -> Fraction:
        return Fraction(self._container.start_time or 0, av.time_base)

    def _start_ticks(self, stream: Stream) -> int:
        # As FFmpeg's own tools do: the container's start, rounded to the stream's ticks, becomes 0.
        return round(self._container_start() / stream.time_base) if stream.time_base else 0

    def _packet_end(self, stream: Stream, pts: int) -> Fraction:
        return (pts - self._start_ticks(stream)) * (stream.time_base or Fraction(0))

    def _shown_for(self, frame: VideoFrame) -> Fraction:
        if frame.duration and self._stream.time_base:
            return frame.duration * self._stream.time_base
        return 1 / self.fps

    def _frame(self, decoded: VideoFrame, start: Fraction, end: Fraction) -> Frame:
        return Frame(start, end, lambda: self._to_rgb(decoded))

    def _to_rgb(self, decoded: VideoFrame) -> RGB:
        # BT.601 whatever the stream's tag says: so does OpenCV before version 5, and with it the reference. PyAV's own
        # default depends on its version.
        converted = self._reformatter.reformat(
            decoded, format="rgb24", src_colorspace=Colorspace.ITU601, dst_colorspace=Colorspace.ITU601
        )
        rgb: RGB = converted.to_ndarray()  # type: ignore[assignment]
        # The matrix is read anew only where the rotation changes: reading it keeps the frame in memory until the next
        # garbage collection (PyAV's side data and frame hold each other).
        if self._display is None or self._display[0] != decoded.rotation:
            self._display = (decoded.rotation, _display_matrix(decoded))
        return np.ascontiguousarray(_as_displayed(rgb, self._display[1]))

    def _check_reached(self, end: Fraction) -> None:
        stated, reached = self._stated_end(), end
        if stated is None:  # then the container's end, which any of its streams may reach
            stated, reached = self._container_end(), max(end, self._reached)
        if stated is not None and reached + Fraction(MISSING_SECONDS) < stated:
            raise MediaError(
                f"{self.location}: truncated: it ends at {float(reached):.2f} s of the {float(stated):.2f} s it states"
            )


def _display_matrix(decoded: VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d): a player shows the stored pixel (x, y) at (a·x + c·y, b·x + d·y)."""
    matrix: Any = decoded.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    return a, b, c, d


def _as_displayed(rgb: RGB, matrix: tuple[int, int, int, int]) -> RGB:
    """The picture turned or mirrored as its display matrix says, by quarter turns."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
