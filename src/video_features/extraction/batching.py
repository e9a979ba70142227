"""Collects windows of one or several videos into batches and runs the network on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from ..errors import MediaError
from ..features import Class
from ..runtimes.base import Array
from ..runtimes.memory import Held, memory
from ..runtimes.threads import thread_pools
from .preprocessing import Preprocessed
from .streams import Row, Span, Stream

TOP_K = 5  # classes per prediction


@dataclass(frozen=True)
class PendingWindow:
    """A window that waits for its row.

    items: the window's items in order
    padding: number of items at the end that repeat the last item of the tail
    first: the first item of the video; every item of a video must have the same shape
    row: the result
    """

    items: Sequence[Preprocessed]
    padding: int
    first: Preprocessed
    row: Future[Row] = field(default_factory=Future)

    @property
    def span(self) -> Span:
        padding = self.padding + sum(item.span.padding for item in self.items)
        return Span(self.items[0].span.seconds, self.items[-1].span.end_seconds, padding)

    def begin(self) -> None:
        """Start preprocessing the window's items without waiting for their groups to fill."""
        for item in self.items:
            item.group.begin()

    def shape(self, model: str) -> tuple[int, ...]:
        """Return the shape of the preprocessed items; waits for preprocessing.

        Raises MediaError if an item's shape differs from the shape of the video's first item.
        """
        expected = self.first.prepared().shape
        for item in self.items:
            found = item.prepared().shape
            if found != expected:
                before, after = (" × ".join(map(str, shape)) for shape in (expected, found))
                raise MediaError(
                    f"the frame size changes at {float(item.span.seconds):.2f} s, and {model} needs one size "
                    f"(preprocessed to {before} before, {after} after); split the video there or re-encode it"
                )
        return expected


class Batches:
    """Collects windows by stream until there are enough for a batch.

    across_videos: True if the last windows of a video wait for windows of the next video
    """

    def __init__(self, *, across_videos: bool = False) -> None:
        self.across_videos = across_videos
        self._waiting: dict[int, tuple[Stream, int, list[PendingWindow]]] = {}  # by id(stream)

    def add(self, stream: Stream, size: int, window: PendingWindow) -> None:
        """Queue a window. The batch runs once `size` windows of the stream are queued."""
        _, _, windows = self._waiting.get(id(stream), (stream, size, []))
        windows.append(window)
        self._waiting[id(stream)] = stream, size, windows
        if len(windows) >= size:  # more if the size was reduced meanwhile, because a full batch does not fit in memory
            self.run(stream)

    def run(self, stream: Stream) -> None:
        """Run the stream's queued windows now, even if the batch is not full."""
        if (queued := self._waiting.pop(id(stream), None)) is not None:
            _, size, waiting = queued
            windows = [window for window in waiting if not window.row.cancelled()]  # their video may have failed
            for window in windows:
                window.begin()
            _submit_encoding(stream, size, windows)
            thread_pools().networks.submit(_run_batch, stream, size, windows)

    def run_all(self) -> None:
        """Run the queued windows of every stream now, even if the batches are not full."""
        for stream, _, _ in list(self._waiting.values()):
            self.run(stream)


def _submit_encoding(stream: Stream, size: int, windows: Sequence[PendingWindow]) -> None:
    """Submit the items of the windows to the network's `encode`, if the stream uses it.

    Overlapping windows share items. Each item is encoded once, with the first window that holds the item.
    """
    if not stream.encodes:
        return
    not_encoded = {id(item): item for window in windows for item in window.items if item.encoded is None}
    items = list(not_encoded.values())
    for start in range(0, len(items), size):
        chunk = items[start : start + size]
        encodings = thread_pools().networks.submit(_encode_items, stream, size, chunk)
        for index, item in enumerate(chunk):
            item.encoded = encodings, index


class _Encodings(list[Any]):
    """The encodings of items, whose memory is counted as long as they exist."""

    held: Held | None = None


def _encode_items(stream: Stream, size: int, items: Sequence[Preprocessed]) -> list[Any]:
    encodings = _Encodings()
    held_bytes = 0
    for _, same_shape in groupby((item.prepared() for item in items), key=lambda array: array.shape):
        found, kept_bytes = stream.run.encode(list(same_shape), size)
        encodings += found
        held_bytes += kept_bytes
    encodings.held = memory().hold(held_bytes)
    return encodings


def _run_batch(stream: Stream, size: int, windows: Sequence[PendingWindow]) -> None:
    """Compute the rows of a batch, with one pass for each item shape, and set each window's row or error."""
    active = [window for window in windows if window.row.set_running_or_notify_cancel()]
    shaped: list[tuple[tuple[int, ...], PendingWindow]] = []
    for window in active:
        try:
            shaped.append((window.shape(stream.model), window))
        except Exception as error:  # fails this window only, not the rest of the batch
            window.row.set_exception(error)
    for shape, group in groupby(shaped, key=lambda pair: pair[0]):
        _run_pass(stream, size, shape, [window for _, window in group])


def _run_pass(stream: Stream, size: int, shape: tuple[int, ...], windows: Sequence[PendingWindow]) -> None:
    try:
        rows = _compute_rows(stream, size, shape, windows)
    except Exception as error:
        if len({id(window.first) for window in windows}) > 1:
            # Retry each video alone, so that a video does not fail because of another video in the batch.
            for _, windows_of_video in groupby(windows, key=lambda window: id(window.first)):
                _run_pass(stream, size, shape, list(windows_of_video))
            return
        for window in windows:
            window.row.set_exception(error)
        return
    for window, row in zip(windows, rows, strict=True):
        window.row.set_result(row)


def _compute_rows(stream: Stream, size: int, shape: tuple[int, ...], windows: Sequence[PendingWindow]) -> list[Row]:
    items = [[item.value() for item in window.items] for window in windows]
    with _of_arrays(f"collate of {stream.key}"):
        inputs = [stream.collate(window) for window in items]
    features, logits = stream.run(inputs, size)
    with _of_arrays(f"postprocess of {stream.key}"):
        values = np.asarray(stream.postprocess(features, shape))
    classes: Iterable[tuple[Class, ...]] = [()] * len(windows)
    if logits is not None and stream.labels is not None:
        classes = top_classes(logits, stream.labels)
    return [
        Row(replace(window.span, classes=top), value)
        for window, value, top in zip(windows, values, classes, strict=True)
    ]


@contextmanager
def _of_arrays(function: str) -> Iterator[None]:
    """Say in an error of a family's function that it gets arrays: families of earlier versions expect tensors."""
    try:
        yield
    except (TypeError, AttributeError) as error:
        raise TypeError(f"the {function} gets NumPy arrays: {error}") from error


def top_classes(logits: Array, labels: Sequence[str]) -> Iterator[tuple[Class, ...]]:
    """Yield the `TOP_K` likeliest classes of every row of logits (B, classes), best first."""
    for row in logits:
        with np.errstate(invalid="ignore"):  # infinity is reported where rows are checked
            exponentials = np.exp(row.astype(np.float64) - row.max())
        probabilities = exponentials / exponentials.sum()
        best = np.argsort(-row, kind="stable")[:TOP_K]
        yield tuple(Class(labels[index], float(row[index]), float(probabilities[index])) for index in best)
