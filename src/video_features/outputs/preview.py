"""Flow as a video to look at: each frame above its flow, as the usual colour wheel shows it."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import torch
from av.container import OutputContainer
from av.video.stream import VideoStream
from torchvision.utils import flow_to_image

from ..errors import WriteError, in_one_line
from ..media import RGB, Frame
from .rows import Array, Rows

CODECS = ("libx264", "mpeg4")  # the better one that this FFmpeg has
TIME_BASE = Fraction(1, 60000)  # in which all usual rates are whole, and MPEG-4 takes no finer one
NOMINAL_FPS = 25  # the codecs want one; frames are shown by their own times


class Preview:
    """Rows of flow that are also shown: an MP4 file grows with the frames and the rows, and `finish` makes it whole.

    Hue is the direction and saturation the length, relative to the longest of the same field (torchvision's
    `flow_to_image`). Row k is shown with frame k, when that is.
    """

    def __init__(self, path: Path, rows: Rows) -> None:
        self.path = path
        self._rows = rows
        self._waiting: deque[Frame] = deque()  # for their rows
        self._ticks = -1  # of the last frame
        self._shown_ticks = 0
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None

    def show(self, frame: Frame) -> None:
        """Take the next frame that rows are made of."""
        self._waiting.append(frame)

    def append(self, row: Array) -> None:
        """Take the next row, flow (2, H, W) in pixels. Raises OutputError where a file cannot be written."""
        self._rows.append(row)
        frame = self._waiting.popleft()
        picture = self._picture(frame.rgb, row)
        try:
            if self._container is None or self._stream is None:
                self._container, self._stream = self._open(picture)
            encoded = av.VideoFrame.from_ndarray(picture, format="rgb24")
            self._ticks = max(self._ticks + 1, round(frame.seconds / TIME_BASE))
            encoded.pts, encoded.time_base = self._ticks, TIME_BASE
            self._container.mux(self._stream.encode(encoded))
            self._shown_ticks = round((frame.end_seconds - frame.seconds) / TIME_BASE)
        except (av.error.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def finish(self, count: int) -> Array | Path:
        assert self._container is not None and self._stream is not None
        try:
            for packet in self._stream.encode():
                if packet.pts == self._ticks:  # nothing after it says how long it is shown
                    packet.duration = self._shown_ticks
                self._container.mux(packet)
            self._container.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._failed(error) from error
        return self._rows.finish(count)

    def close(self) -> None:
        """Remove the file, if it is still there under its name."""
        if self._container is not None:
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _open(self, picture: RGB) -> tuple[OutputContainer, VideoStream]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        container = av.open(str(self.path), "w", format="mp4")
        codec = next(name for name in CODECS if name in av.codecs_available)
        stream: VideoStream = container.add_stream(codec, rate=NOMINAL_FPS)  # type: ignore[assignment]
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        return container, stream

    @staticmethod
    def _picture(rgb: RGB, flow: Array) -> RGB:
        """uint8 (H, W, 3) and (2, h, w) → uint8 (2 h, w, 3), by a pixel more where that is odd, as the codec needs."""
        height, width = flow.shape[1:]
        frame = np.asarray(PIL.Image.fromarray(rgb).resize((width, height), PIL.Image.Resampling.BILINEAR))
        colours = flow_to_image(torch.from_numpy(flow.astype(np.float32))).permute(1, 2, 0).numpy()
        return np.pad(np.concatenate([frame, colours]), ((0, 0), (0, width % 2), (0, 0)), mode="edge")

    def _failed(self, error: Exception) -> WriteError:
        reason = getattr(error, "strerror", None) or in_one_line(error)
        return WriteError(f"{self.path.parent}: the preview cannot be written ({reason})")
