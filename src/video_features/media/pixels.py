"""Converts decoded pictures on request: from interlaced to progressive, and to the size that has square pixels."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

from av.filter import Graph
from av.video.frame import VideoFrame

from ..errors import MediaError
from .container import FFMPEG_ERRORS, error_text

MAX_ASPECT = 32  # a pixel this many times as wide as high, or as high as wide, is an error in the header


class Deinterlacer:
    """Deinterlaces pictures with FFmpeg's filter `yadif`, whose result for a picture depends on its neighbours.

    Each picture gives one picture with the same timestamps (`send_frame`). All pictures are deinterlaced, also those
    that the file does not mark as interlaced.

    location: the file, for messages
    """

    def __init__(self, location: str) -> None:
        self._location = location
        self._graph: Graph | None = None
        self._input: tuple[str, int, int] | None = None  # format and size that the graph was made for
        self._waiting: deque[tuple[Any, ...]] = deque()  # timestamps of the pictures in the graph
        self._count = 0  # of the pictures so far

    def push(self, decoded: VideoFrame) -> Iterator[VideoFrame]:
        """Add the next picture, and yield those that are complete. Raises MediaError if FFmpeg cannot filter it."""
        given = decoded.format.name, decoded.width, decoded.height
        if given != self._input:
            yield from self.flush()
            self._graph = _graph(self._location, "deinterlace", decoded, ("yadif", "mode=send_frame"))
            self._input = given
        self._waiting.append((decoded.pts, decoded.dts, decoded.time_base, decoded.duration))
        self._count += 1
        decoded.pts = self._count  # yadif needs timestamps, and changes them
        assert self._graph is not None
        self._graph.push(decoded)
        yield from self._pull(self._graph)

    def flush(self) -> Iterator[VideoFrame]:
        """End the pictures, and yield the rest."""
        graph, self._graph, self._input = self._graph, None, None
        if graph is not None:
            graph.push(None)
            yield from self._pull(graph)

    def _pull(self, graph: Graph) -> Iterator[VideoFrame]:
        while True:
            try:
                picture = cast(VideoFrame, graph.pull())
            except (BlockingIOError, EOFError):  # needs the next picture, or there is none left
                return
            picture.pts, picture.dts, picture.time_base, picture.duration = self._waiting.popleft()
            yield picture


class SquarePixels:
    """Resizes pictures to square pixels, to RGB, with FFmpeg's filter `scale`. Several threads may use it at once.

    aspect: the width of a pixel divided by its height
    location: the file, for messages
    """

    def __init__(self, aspect: Fraction, location: str) -> None:
        self._aspect = aspect
        self._location = location
        self._graphs: deque[tuple[tuple[object, ...], Graph]] = deque()  # those that no thread is using

    def to_rgb(self, decoded: VideoFrame, *, is_turned: bool) -> VideoFrame:
        """Return a picture as rgb24 with square pixels. Colours are converted as BT.601.

        is_turned: whether players turn the picture by 90°
        """
        width, height = square_size(decoded.width, decoded.height, self._aspect, is_turned=is_turned)
        needed = decoded.format.name, decoded.width, decoded.height, width, height
        try:
            made_for, graph = self._graphs.pop()
        except IndexError:  # all are in use
            made_for, graph = (), None
        if graph is None or made_for != needed:
            scale = "scale", f"{width}:{height}:in_color_matrix=bt601"
            graph = _graph(self._location, "square_pixels", decoded, scale, ("format", "rgb24"))
        graph.push(decoded)
        converted = cast(VideoFrame, graph.pull())
        self._graphs.append((needed, graph))
        return converted


def square_pixels(stream: Any, location: str) -> SquarePixels | None:
    """Return what resizes the pictures of a stream to square pixels, or None if they have square pixels already.

    As in ffmpeg, the ratio is that of the container, else that of the codec.
    Raises MediaError if the ratio is implausible.
    """
    ratio: Fraction = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, MAX_ASPECT) <= ratio <= MAX_ASPECT:
        raise MediaError(
            f"{location}: the file states pixels of {ratio.numerator}:{ratio.denominator} (width to height), expected "
            f"at most {MAX_ASPECT}:1; leave out square_pixels"
        )
    return None if ratio == 1 else SquarePixels(ratio, location)


def square_size(width: int, height: int, aspect: Fraction, *, is_turned: bool) -> tuple[int, int]:
    """Return the width and the height with square pixels, as ffmpeg's `scale=iw*sar:ih` computes them.

    This changes the width of the picture as shown.

    aspect: the width of a pixel divided by its height
    is_turned: whether players turn the picture by 90°, so that its width is shown as its height
    """
    if is_turned:
        return width, int(height * (aspect.denominator / aspect.numerator)) or height
    return int(width * (aspect.numerator / aspect.denominator)) or width, height


def _graph(location: str, setting: str, decoded: VideoFrame, *filters: tuple[str, str]) -> Graph:
    """Return a filter graph for pictures of the same format and size as `decoded`.

    filters: the filters and their options, in order
    setting: the setting that asks for them, for messages
    """
    graph = Graph()
    try:
        graph.threads = 1  # threads of the graph would not exist in a forked process
        source = graph.add_buffer(
            width=decoded.width, height=decoded.height, format=decoded.format, time_base=Fraction(1, 1000)
        )
        nodes = [graph.add(name, options) for name, options in filters]
        graph.link_nodes(source, *nodes, graph.add("buffersink")).configure()
    except (*FFMPEG_ERRORS, ValueError) as error:
        raise MediaError(
            f"{location}: FFmpeg cannot convert its pictures of {decoded.width}×{decoded.height} "
            f"({decoded.format.name}) for {setting} ({error_text(error)}); leave out {setting}"
        ) from error
    return graph
