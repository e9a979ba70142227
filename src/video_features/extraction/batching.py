"""Windows that wait in batches for the network, of one video or of several; and its passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from ..errors import MediaError
from ..features import Class
from ..runtimes.base import over_tensors
from ..runtimes.threads import thread_pools
from ..timing import timed
from .preprocessing import Preprocessed
from .streams import Row, Span, Stream

TOP = 5  # classes of a prediction


@dataclass(frozen=True)
class PendingWindow:
    """A window that waits for its row; the last `padding` of its items repeat the one before.

    first: the first item of its video, whose shape all have
    goes_on: whether another stream needs its row, which then stays on the network's device
    """

    items: Sequence[Preprocessed]
    padding: int
    first: Preprocessed
    goes_on: bool
    row: Future[Row] = field(default_factory=Future)

    @property
    def span(self) -> Span:
        padding = self.padding + sum(item.span.padding for item in self.items)
        return Span(self.items[0].span.seconds, self.items[-1].span.end_seconds, padding)

    def begin(self) -> None:
        """Have its items prepared."""
        for item in self.items:
            item.group.begin()

    def shape(self, model: str) -> torch.Size:
        """Of its items, once they are prepared. Raises MediaError where it is not that of all."""
        expected = self.first.prepared().shape
        for item in self.items:
            found = item.prepared().shape
            if found != expected:
                before, now = (" × ".join(map(str, shape)) for shape in (expected, found))
                raise MediaError(
                    f"its pictures change their size at {float(item.span.seconds):.2f} s, and {model} needs one "
                    f"(prepared as {before} so far, as {now} from there on); split the video there, or re-encode it"
                )
        return expected


class Batches:
    """Windows that wait until there are enough of them for a batch, of one video or of several.

    across_videos: whether a video's last ones wait for the next video's
    """

    def __init__(self, *, across_videos: bool = False) -> None:
        self.across_videos = across_videos
        self._waiting: dict[int, tuple[Stream, int, list[PendingWindow]]] = {}  # by the stream's identity

    def add(self, stream: Stream, size: int, window: PendingWindow) -> None:
        """Have the window's row computed once there are `size` of them."""
        _, _, windows = self._waiting.setdefault(id(stream), (stream, size, []))
        windows.append(window)
        if len(windows) == size:
            self.run(stream)

    def run(self, stream: Stream) -> None:
        """Do not wait for more of them."""
        if (found := self._waiting.pop(id(stream), None)) is not None:
            _, size, waiting = found
            windows = [window for window in waiting if not window.row.cancelled()]  # a video may have failed meanwhile
            for window in windows:
                window.begin()
            _encode(stream, size, windows)
            thread_pools().networks.submit(_run, stream, size, windows)

    def run_all(self) -> None:
        """Do not wait for more of any stream's."""
        for stream, _, _ in list(self._waiting.values()):
            self.run(stream)


def _encode(stream: Stream, size: int, windows: Sequence[PendingWindow]) -> None:
    """Have each of their items, which may be in several windows, encoded once, where the network does that."""
    if not stream.encodes:
        return
    fresh = {id(item): item for window in windows for item in window.items if item.code is None}
    items = list(fresh.values())
    for start in range(0, len(items), size):
        some = items[start : start + size]
        codes = thread_pools().networks.submit(_codes, stream, size, some)
        for place, item in enumerate(some):
            item.code = codes, place


def _codes(stream: Stream, size: int, items: Sequence[Preprocessed]) -> list[Any]:
    every: list[Any] = []
    for _, alike in groupby((item.prepared() for item in items), key=lambda one: one.shape):
        codes = stream.run.encode(torch.stack(list(alike)), size)
        every += codes if isinstance(codes, Tensor) else zip(*codes, strict=True)
    return every


def _run(stream: Stream, size: int, windows: Sequence[PendingWindow]) -> None:
    """Compute the rows of a batch, in a pass for each shape, and tell each window its own."""
    asked = [window for window in windows if window.row.set_running_or_notify_cancel()]
    shaped: list[tuple[torch.Size, PendingWindow]] = []
    for window in asked:
        try:
            shaped.append((window.shape(stream.model), window))
        except Exception as error:  # its own fault, and not that of the others
            window.row.set_exception(error)
    for shape, group in groupby(shaped, key=lambda pair: pair[0]):
        _pass(stream, size, shape, [window for _, window in group])


def _pass(stream: Stream, size: int, shape: torch.Size, windows: Sequence[PendingWindow]) -> None:
    try:
        rows = _rows(stream, size, shape, windows)
    except Exception as error:
        if len({id(window.first) for window in windows}) > 1:  # each video alone, so that none fails for another
            for _, of_one in groupby(windows, key=lambda window: id(window.first)):
                _pass(stream, size, shape, list(of_one))
            return
        for window in windows:
            window.row.set_exception(error)
        return
    for window, row in zip(windows, rows, strict=True):
        window.row.set_result(row)


def _batch(inputs: list[Any]) -> Any:
    """Inputs, each a tensor or a list of such, one after another; of a single one nothing is copied."""
    if len(inputs) == 1:
        return over_tensors(inputs[0], lambda one: one[None])
    return default_collate(inputs)


def _rows(stream: Stream, size: int, shape: torch.Size, windows: Sequence[PendingWindow]) -> list[Row]:
    features, logits = stream.run(
        _batch([stream.collate([item.value() for item in one.items]) for one in windows]), size
    )
    values = stream.postprocess(features, shape)
    if not windows[0].goes_on:
        with timed("network"):  # which a GPU is still at
            values = values.cpu()
    classes: Iterable[tuple[Class, ...]] = [()] * len(windows)
    if logits is not None and stream.labels is not None:
        classes = top_classes(logits, stream.labels)
    return [
        Row(replace(window.span, classes=best), value)
        for window, value, best in zip(windows, values, classes, strict=True)
    ]


def top_classes(logits: Tensor, labels: Sequence[str]) -> Iterator[tuple[Class, ...]]:
    """For every row of logits (B, classes), its `TOP` likeliest classes."""
    best = logits.float().topk(min(TOP, logits.shape[1]))
    probabilities = logits.float().softmax(dim=1).gather(1, best.indices)
    for row in zip(best.indices.tolist(), best.values.tolist(), probabilities.tolist(), strict=True):
        yield tuple(Class(labels[index], logit, p) for index, logit, p in zip(*row, strict=True))
