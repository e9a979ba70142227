"""Frames, excerpts and rows on their way to the network: each is prepared once, a few at a time in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..media import Frame
from ..runtimes.threads import thread_pools
from ..timing import timed
from .sampling import Excerpt
from .streams import Row, Span, Stream

LARGEST_GROUP = 4  # the gain is in the first few, and what is not prepared is as large as the video's pictures


class PreprocessGroup:
    """Items of one stream and one video that one thread prepares, one after another.

    To hand over each by itself costs time, and has the threads that prepare take turns with those that run networks
    more often, each of which finds its data gone from the core's cache.

    size: how many there are in it at most
    """

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream = stream
        self._size = size
        self._waiting: list[Frame | Excerpt | Row] = []
        self._tensors: Future[list[Tensor]] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it takes another item."""
        return self._tensors is None

    @property
    def tensors(self) -> Future[list[Tensor]]:
        """What its items are prepared as, once it has begun."""
        assert self._tensors is not None, "nobody waits for a group that waits for more items"
        return self._tensors

    def add(self, item: Frame | Excerpt | Row) -> Preprocessed:
        """Take another item; the last that there is room for is not waited for."""
        self._waiting.append(item)
        made = Preprocessed(_span(item), self, len(self._waiting) - 1)
        if len(self._waiting) == self._size:
            self.begin()
        return made

    def begin(self) -> None:
        """Do not wait for more items."""
        if self._tensors is None:
            items, self._waiting = self._waiting, []
            self._tensors = thread_pools().preparing.submit(_prepare, self._stream, items)


@dataclass
class Preprocessed:
    """What windows are made of: a frame, an excerpt or a row, being prepared, and once it is needed encoded.

    group, place: with which others it is prepared, and the how manieth of them it is
    code: what the network's `encode` makes of several, and which of them this one is
    """

    span: Span
    group: PreprocessGroup
    place: int
    code: tuple[Future[list[Any]], int] | None = None

    def prepared(self) -> Tensor:
        """What it is prepared as; waits until that is there, for which the group must have begun."""
        return self.group.tensors.result()[self.place]

    def value(self) -> Any:
        """What the network takes of it; waits until that is there."""
        if self.code is None:
            return self.prepared()
        codes, place = self.code
        return codes.result()[place]


def _prepare(stream: Stream, items: Sequence[Frame | Excerpt | Row]) -> list[Tensor]:
    with timed("preprocessing"):
        return [stream.preprocess(_value(item)) for item in items]


def _span(item: Frame | Excerpt | Row) -> Span:
    if isinstance(item, Row):
        return item.span
    return Span(item.seconds, item.end_seconds, item.padding if isinstance(item, Excerpt) else 0)


def _value(item: Frame | Excerpt | Row) -> Any:
    if isinstance(item, Row):
        return item.value
    return item.rgb if isinstance(item, Frame) else item.samples
