"""Preprocesses frames, excerpts and rows in threads, a few at a time; each item is preprocessed once."""

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

# Larger groups gain little more, and the items of a group stay in memory at full size until they are preprocessed.
MAX_GROUP_SIZE = 4


class PreprocessGroup:
    """Items of one stream and one video that one thread preprocesses in sequence.

    A thread hand-over costs time. With one item per task, the preprocessing threads and the network threads would also
    take turns more often, and each would find its data evicted from the core's cache.

    size: maximum number of items in the group
    """

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream = stream
        self._size = size
        self._waiting: list[Frame | Excerpt | Row] = []
        self._tensors: Future[list[Tensor]] | None = None

    @property
    def is_open(self) -> bool:
        """True if the group takes another item."""
        return self._tensors is None

    @property
    def tensors(self) -> Future[list[Tensor]]:
        """The preprocessed items; the group must have begun."""
        assert self._tensors is not None, "call begin() before waiting for the tensors of a group"
        return self._tensors

    def add(self, item: Frame | Excerpt | Row) -> Preprocessed:
        """Add an item; a full group begins at once."""
        self._waiting.append(item)
        preprocessed = Preprocessed(_span(item), self, len(self._waiting) - 1)
        if len(self._waiting) == self._size:
            self.begin()
        return preprocessed

    def begin(self) -> None:
        """Submit the group without waiting for more items."""
        if self._tensors is None:
            items, self._waiting = self._waiting, []
            self._tensors = thread_pools().preparing.submit(_preprocess, self._stream, items)


@dataclass
class Preprocessed:
    """An item of a window: a frame, an excerpt or a row that is being preprocessed and, if needed, encoded.

    group, index: the group that preprocesses the item, and the item's index in the group
    encoded: the output of the network's `encode` for several items, and this item's index in that output
    """

    span: Span
    group: PreprocessGroup
    index: int
    encoded: tuple[Future[list[Any]], int] | None = None

    def prepared(self) -> Tensor:
        """Return the preprocessed tensor; waits for preprocessing. The group must have begun."""
        return self.group.tensors.result()[self.index]

    def value(self) -> Any:
        """Return the item's input to the network: the encoding, or the preprocessed tensor if not encoded. Waits."""
        if self.encoded is None:
            return self.prepared()
        encodings, index = self.encoded
        return encodings.result()[index]


def _preprocess(stream: Stream, items: Sequence[Frame | Excerpt | Row]) -> list[Tensor]:
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
