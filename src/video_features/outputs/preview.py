"""Renders optical flow as an MP4 video: each frame above its flow in the usual colour coding."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
from av.container import OutputContainer
from av.video.stream import VideoStream

from ..errors import WriteError, in_one_line
from ..media import RGB, Frame
from .flow_image import flow_to_image
from .rows import Array, Rows

CODECS = ("libx264", "mpeg4")  # in order of preference; FFmpeg may lack the first
TIME_BASE = Fraction(1, 60000)  # common frame rates are whole numbers of ticks; MPEG-4 allows no finer time base
NOMINAL_FPS = 25  # the codecs need a rate; frames are shown by their pts


class Preview:
    """Stores rows of flow and also encodes them as an MP4 file, which `finish` completes.

    Hue shows the direction of the flow. Saturation shows the length, relative to the longest vector of the same row
    (see `flow_to_image`). Row k is shown below frame k, at the time of frame k.
    """

    def __init__(self, path: Path, rows: Rows) -> None:
        self.path = path
        self._rows = rows
        self._waiting: deque[Frame] = deque()  # frames whose rows have not been appended
        self._pts = -1  # pts of the last frame
        self._duration = 0  # duration of the last frame, in ticks
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None

    def show(self, frame: Frame) -> None:
        """Add the next frame from which rows are computed."""
        self._waiting.append(frame)

    def append(self, row: Array) -> None:
        """Add the next row, flow (2, H, W) in pixels. Raises OutputError if a file cannot be written."""
        self._rows.append(row)
        frame = self._waiting.popleft()
        image = self._render(frame.rgb, row)
        try:
            if self._container is None or self._stream is None:
                self._container, self._stream = self._open(image)
            encoded = av.VideoFrame.from_ndarray(image, format="rgb24")
            self._pts = max(self._pts + 1, round(frame.seconds / TIME_BASE))
            encoded.pts, encoded.time_base = self._pts, TIME_BASE
            self._container.mux(self._stream.encode(encoded))
            self._duration = round((frame.end_seconds - frame.seconds) / TIME_BASE)
        except (av.error.FFmpegError, OSError) as error:
            raise self._write_error(error) from error

    def finish(self, count: int) -> Array | Path:
        assert self._container is not None and self._stream is not None
        try:
            for packet in self._stream.encode():
                if packet.pts == self._pts:  # no later frame gives the duration of the last frame
                    packet.duration = self._duration
                self._container.mux(packet)
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._write_error(error) from error
        return self._rows.finish(count)

    def close(self) -> None:
        """Remove the file if it still has its temporary name."""
        if self._container is not None:
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _open(self, image: RGB) -> tuple[OutputContainer, VideoStream]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        container = av.open(str(self.path), "w", format="mp4")
        codec = next(name for name in CODECS if name in av.codecs_available)
        stream: VideoStream = container.add_stream(codec, rate=NOMINAL_FPS)  # type: ignore[assignment]
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        return container, stream

    @staticmethod
    def _render(rgb: RGB, flow: Array) -> RGB:
        """uint8 (H, W, 3) and (2, h, w) → uint8 (2 h, w, 3). An odd w grows by a pixel: the codec needs even sizes."""
        height, width = flow.shape[1:]
        frame = np.asarray(PIL.Image.fromarray(rgb).resize((width, height), PIL.Image.Resampling.BILINEAR))
        return np.pad(np.concatenate([frame, flow_to_image(flow)]), ((0, 0), (0, width % 2), (0, 0)), mode="edge")

    def _write_error(self, error: Exception) -> WriteError:
        reason = getattr(error, "strerror", None) or in_one_line(error)
        return WriteError(f"{self.path.parent}: the preview cannot be written ({reason})")
