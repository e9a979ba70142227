"""Preprocesses frames, excerpts and rows in threads, a few at a time; each item is preprocessed once."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..media import Frame
from ..runtimes.base import Array, bytes_of
from ..runtimes.memory import Held, memory
from ..runtimes.threads import thread_pools
from ..runtimes.timing import timed
from .sampling import Excerpt
from .streams import Row, Span, Stream

# Larger groups gain little more, and the items of a group stay in memory at full size until they are preprocessed.
MAX_GROUP_SIZE = 4


class _OpenGroups(threading.local):
    """The groups of a thread that have items and have not begun."""

    def __init__(self) -> None:
        self.groups: weakref.WeakSet[PreprocessGroup] = weakref.WeakSet()


_open = _OpenGroups()


class PreprocessGroup:
    """Items of one stream and one video that one thread preprocesses in sequence.

    A thread hand-over costs time. With one item per task, the preprocessing threads and the network threads would also
    take turns more often, and each would find its data evicted from the core's cache.

    size: maximum number of items in the group
    """

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream = stream
        self._size = size
        self._waiting: deque[tuple[Frame | Excerpt | Row, Held | None]] = deque()
        self._count = 0
        self._arrays: Future[list[Array]] | None = None
        self._held: Held | None = None  # the arrays, as long as they are in memory

    @property
    def is_open(self) -> bool:
        """True if the group takes another item."""
        return self._arrays is None

    @property
    def arrays(self) -> Future[list[Array]]:
        """The preprocessed items; the group must have begun."""
        assert self._arrays is not None, "call begin() before waiting for the arrays of a group"
        return self._arrays

    def add(self, item: Frame | Excerpt | Row, held: Held | None) -> Preprocessed:
        """Add an item; a full group begins at once. held: the memory of the item, released once it is preprocessed"""
        self._waiting.append((item, held))
        self._count += 1
        preprocessed = Preprocessed(_span(item), self, self._count - 1)
        _open.groups.add(self)
        if self._count == self._size:
            self.begin()
        return preprocessed

    def begin(self) -> None:
        """Submit the group without waiting for more items."""
        if self._arrays is None:
            _open.groups.discard(self)
            self._arrays = thread_pools().preparing.submit(self._preprocess)

    def cancel(self) -> None:
        """Release the items of a group that has not begun, and never will: errors may refer to it for a long time."""
        if self._arrays is None:
            _open.groups.discard(self)
            while self._waiting:
                _, held = self._waiting.popleft()
                if held is not None:
                    held.release()

    def _preprocess(self) -> list[Array]:
        arrays: list[Array] = []
        try:
            with timed("preprocessing"):
                while self._waiting:  # each frame is released as soon as it is preprocessed
                    item, held = self._waiting.popleft()
                    try:
                        arrays.append(np.asarray(self._stream.preprocess(_value(item))))
                    finally:
                        if held is not None:
                            held.release()
                    del item, held
        finally:
            self._waiting.clear()
        self._held = memory().hold(sum(bytes_of(array) for array in arrays))
        return arrays


def begin_open_groups() -> None:
    """Begin every group that this thread has added items to."""
    for group in list(_open.groups):
        group.begin()


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

    def prepared(self) -> Array:
        """Return the preprocessed array; waits for preprocessing. The group must have begun."""
        return self.group.arrays.result()[self.index]

    def value(self) -> Any:
        """Return the item's input to the network: the encoding, or the preprocessed array if not encoded. Waits."""
        if self.encoded is None:
            return self.prepared()
        encodings, index = self.encoded
        return encodings.result()[index]


def _span(item: Frame | Excerpt | Row) -> Span:
    if isinstance(item, Row):
        return item.span
    return Span(item.seconds, item.end_seconds, item.padding if isinstance(item, Excerpt) else 0)


def _value(item: Frame | Excerpt | Row) -> Any:
    if isinstance(item, Row):
        return item.value
    return item.rgb if isinstance(item, Frame) else item.samples
