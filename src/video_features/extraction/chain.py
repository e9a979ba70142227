"""The way of one video through a stream: items are prepared, windows of them fill, and wait in batches for the network.

Nothing here waits for a network before it has to: what is under way beside the reading of frames is bounded by a few
batches, and rows come out in their order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..media import Frame
from ..runtimes.threads import thread_pools
from ..timeline.windows import Window, Windower
from ..timing import timed
from .batching import Batches, PendingWindow
from .preprocessing import LARGEST_GROUP, Preprocessed, PreprocessGroup
from .sampling import Excerpt
from .streams import Row, Stream

GROUPS_AHEAD = 2  # at most, beside one for each thread that prepares, so that none of these waits
MOST_AHEAD = 32  # items in them, where there are few groups: pictures may be large


class Chain:
    """A stream, and those that it is over, for one source: frames or excerpts in, rows out, on the CPU."""

    def __init__(self, stream: Stream, batch_size: int | None, batches: Batches) -> None:
        chain = stream.chain()
        # A stream over single rows waits for none, and has them in batches.
        windows = [*(None if one.window == Window() else one.window for one in chain[1:]), None]
        self._stages = [_Stage(one, over_it, batch_size, batches) for one, over_it in zip(chain, windows, strict=True)]

    def push(self, item: Frame | Excerpt) -> list[Row]:
        """Take a frame or an excerpt; the rows that are ready."""
        first, *others = self._stages
        first.push(item)
        rows = first.ready()
        for stage in others:
            for row in rows:
                stage.push(row)
            rows = stage.ready()
        return rows

    def end(self) -> Iterator[Row]:
        """Nothing more comes: the rows that are ready, and what is left is on its way, or waits in `batches`."""
        *others, last = self._stages
        rows: list[Row] = []
        for stage in others:
            for row in rows:
                stage.push(row)
            stage.end()
            stage.flush()
            rows = list(stage.rest())
        for row in rows:
            last.push(row)
            yield from last.ready()
        last.end()

    @property
    def is_ready(self) -> bool:
        """Whether the rest is there."""
        return self._stages[-1].is_ready

    def rest(self) -> Iterator[Row]:
        """The rows that are left when everything has gone through."""
        return self._stages[-1].rest()

    def cancel(self) -> None:
        """Give up what is under way."""
        for stage in self._stages:
            stage.cancel()


class _Stage:
    """One stream of one video: frames, excerpts or rows in, rows out. Holds a window, and a few batches.

    over_it: the window of the stream that is over this one, where it is of several rows. Rows are computed once they
        fill it, and those that lie in its gaps, or are dropped with the tail, never; it gets the others as if there
        were no gaps.
    """

    def __init__(self, stream: Stream, over_it: Window | None, batch_size: int | None, batches: Batches) -> None:
        window = stream.window
        if stream.over is not None:
            window = replace(window, step=min(window.step, window.size))
        self._stream = stream
        self._over_it = over_it
        self._batches = batches
        self._windower: Windower[Frame | Excerpt | Row, Preprocessed] = Windower(window, self._prepared)
        self._batch_size = stream.batch_size(batch_size)
        self._first: Preprocessed | None = None
        self._windows = 0
        self._needed: list[PendingWindow] = []  # by the stream over it, once they fill a window of that
        self._running: deque[PendingWindow] = deque()  # in their order, with those that wait in `batches`
        self._groups: deque[PreprocessGroup] = deque()  # all but the last have begun
        pool = thread_pools()
        new_items = min(window.step, window.size)  # of each window but the first
        self._most_groups = pool.preparers + min(pool.preparers, GROUPS_AHEAD)
        self._group_size = min(LARGEST_GROUP, self._batch_size * new_items, max(1, MOST_AHEAD // self._most_groups))
        # As many batches as are under way at once, the next one, and what is being prepared.
        prepared_rows = self._most_groups * self._group_size // new_items
        self._most_running = (pool.passes + 1) * self._batch_size + prepared_rows

    def push(self, item: Frame | Excerpt | Row) -> None:
        """Take the next one; waits where too much is under way."""
        window = self._windower.push(item)
        if window is not None:
            self._add(window, padding=0)

    def ready(self) -> list[Row]:
        """The rows that are there; waits for some where too many are under way."""
        rows = []
        while self._running and (self._running[0].row.done() or len(self._running) > self._most_running):
            with timed("waiting for the network"):
                rows.append(self._running.popleft().row.result())
        return rows

    def end(self) -> None:
        """Nothing more comes: what is left is on its way, or waits for other videos' windows."""
        if self._over_it is not None and self._over_it.tail == "drop":
            return
        if (tail := self._windower.finish()) is not None:
            padding = self._stream.window.size - len(tail)
            self._add([*tail, *([tail[-1]] * padding)], padding)
        self._submit()
        for window in self._running:
            window.begin()
        if not self._batches.across_videos or self._stream.rows_are_pictures:  # which are of other sizes
            self.flush()

    def flush(self) -> None:
        """Do not wait for other videos' windows."""
        self._batches.run(self._stream)

    @property
    def is_ready(self) -> bool:
        return all(window.row.done() for window in self._running)

    def rest(self) -> Iterator[Row]:
        """The rows that are left."""
        while self._running:
            with timed("waiting for the network"):
                row = self._running.popleft().row.result()
            yield row

    def cancel(self) -> None:
        """Give up what has not begun."""
        for window in (*self._needed, *self._running):
            window.row.cancel()

    def _prepared(self, item: Frame | Excerpt | Row) -> Preprocessed:
        if not self._groups or not self._groups[-1].is_open:
            self._make_room_for_a_group()
            self._groups.append(PreprocessGroup(self._stream, self._group_size))
        made = self._groups[-1].add(item)
        self._first = self._first or made
        return made

    def _make_room_for_a_group(self) -> None:
        while self._groups and (self._groups[0].tensors.done() or len(self._groups) >= self._most_groups):
            with timed("waiting for preprocessing"):
                self._groups.popleft().tensors.exception()  # which its windows will tell

    def _add(self, items: Sequence[Preprocessed], padding: int) -> None:
        place, self._windows = self._windows, self._windows + 1
        if self._over_it is not None and not self._over_it.holds(place):
            return
        assert self._first is not None
        self._needed.append(PendingWindow(items, padding, self._first, goes_on=self._over_it is not None))
        if self._over_it is None:
            self._submit()
        elif self._over_it.completes(place):
            self._submit()
            self.flush()

    def _submit(self) -> None:
        for window in self._needed:
            self._running.append(window)
            self._batches.add(self._stream, self._batch_size, window)
        self._needed = []
