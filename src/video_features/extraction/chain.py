"""Moves one video's items through a chain of streams: preprocessing, windows, and batches for the network.

The reading thread waits for the network only when too much work is in flight. The limit is a few batches. Rows come
out in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from ..errors import MediaError
from ..media import Frame
from ..runtimes.memory import Held, in_gigabytes, memory
from ..runtimes.threads import thread_pools
from ..runtimes.timing import timed
from ..signals import check_stop, result_of
from ..timeline.windows import Window, Windower
from .batching import Batches, PendingWindow
from .preprocessing import MAX_GROUP_SIZE, Preprocessed, PreprocessGroup, begin_open_groups
from .sampling import Excerpt
from .streams import Row, Stream, rows_that_fit

GROUPS_AHEAD = 2  # queued groups, in addition to one for each preprocessing thread, so that no thread is idle
MAX_ITEMS_AHEAD = 32  # items in all groups together; frames may be large
# Of a frame until it is preprocessed: 1.5 to 3 bytes as decoded, 3 in RGB, and up to 12 in floats or 4 in PIL.
BYTES_PER_PIXEL = 16


class Chain:
    """A stream and the streams that it depends on, for one source: frames or excerpts in, rows out."""

    def __init__(self, stream: Stream, batch_size: int | None, batches: Batches) -> None:
        chain = stream.chain()
        # A downstream window of one row imposes no grouping: the stage below can run in full batches.
        downstream = [*(None if other.window == Window() else other.window for other in chain[1:]), None]
        self._stages = [
            _Stage(link, window, batch_size, batches) for link, window in zip(chain, downstream, strict=True)
        ]

    def push(self, item: Frame | Excerpt) -> list[Row]:
        """Add a frame or an excerpt and return the rows that are ready. Raises KeyboardInterrupt if told to stop."""
        check_stop()  # here, because one picture of a video may be pushed many thousand times
        first, *others = self._stages
        first.push(item)
        rows = first.ready()
        for stage in others:
            for row in rows:
                stage.push(row)
            rows = stage.ready()
        return rows

    def end(self) -> Iterator[Row]:
        """End the input and yield the rows that are ready. The remaining rows are in flight or wait in `batches`."""
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
        """True if `rest` would not wait."""
        return self._stages[-1].is_ready

    def rest(self) -> Iterator[Row]:
        """Yield the remaining rows after `end`; waits for the network."""
        return self._stages[-1].rest()

    def cancel(self) -> None:
        """Cancel the work that has not started."""
        for stage in self._stages:
            stage.cancel()


class _Stage:
    """One stream of one video: frames, excerpts or rows in, rows out. Holds one window and a few batches.

    downstream: the window of the stream that takes this stage's rows, if that window spans several rows. Rows are
        computed as soon as they complete such a window. Rows that fall into a gap between windows, or into a tail that
        is dropped, are never computed; the next stage gets the other rows as if there were no gaps.
    """

    def __init__(self, stream: Stream, downstream: Window | None, batch_size: int | None, batches: Batches) -> None:
        window = stream.window
        if stream.over is not None:  # the stage below has left out the rows in gaps
            window = replace(window, step=min(window.step, window.size))
        self._stream = stream
        self._downstream = downstream
        self._batches = batches
        self._windower: Windower[Frame | Excerpt | Row, Preprocessed] = Windower(window, self._preprocess)
        self._batch_size = stream.batch_size(batch_size)
        self._first: Preprocessed | None = None
        self._is_memory_checked = False
        self._window_count = 0
        self._needed: list[PendingWindow] = []  # not submitted: they do not complete a downstream window yet
        self._running: deque[PendingWindow] = deque()  # submitted, in order; some may still wait in `batches`
        self._groups: deque[PreprocessGroup] = deque()  # all but the last have been submitted
        pool = thread_pools()
        new_items = self._new_items = min(window.step, window.size)  # for each window after the first
        self._max_groups = pool.preparers + min(pool.preparers, GROUPS_AHEAD)
        self._group_size = min(
            MAX_GROUP_SIZE, self._batch_size * new_items, max(1, MAX_ITEMS_AHEAD // self._max_groups)
        )

    @property
    def _max_running(self) -> int:
        """The batches that run at once, the next batch, and the rows whose items are being preprocessed.

        With fewer rows in flight, the reading thread would wait although a network thread is free.
        """
        rows_in_preprocessing = self._max_groups * self._group_size // self._new_items
        return (thread_pools().passes + 1) * self._batch_size + rows_in_preprocessing

    def push(self, item: Frame | Excerpt | Row) -> None:
        """Add the next item; waits if too many items are being preprocessed."""
        window = self._windower.push(item)
        if window is not None:
            self._add(window, padding=0)

    def ready(self) -> list[Row]:
        """Return the rows that are ready, in order; waits for the oldest if too many are in flight."""
        rows = []
        while self._running and (self._running[0].row.done() or self._is_too_much_in_flight()):
            with timed("waiting for the network"):
                rows.append(result_of(self._running.popleft().row))
        return rows

    def _is_too_much_in_flight(self) -> bool:
        if len(self._running) > self._max_running:
            return True
        if memory().is_over:  # then a batch that is not full must not wait for more windows
            self.flush()
            return True
        return False

    def end(self) -> None:
        """End the input. The remaining windows are in flight, or wait for the windows of other videos."""
        if self._downstream is not None and self._downstream.tail == "drop":  # no downstream window needs more rows
            return
        if (tail := self._windower.finish()) is not None:
            self._check_memory(wait=True)
            padding = self._stream.window.size - len(tail)
            self._add([*tail, *([tail[-1]] * padding)], padding)
        self._submit()
        for window in self._running:
            window.begin()
        # Frames of other videos may have another size and cannot share a batch.
        if not self._batches.across_videos or self._stream.rows_are_pictures:
            self.flush()

    def flush(self) -> None:
        """Run the queued windows without waiting for windows of other videos."""
        self._batches.run(self._stream)

    @property
    def is_ready(self) -> bool:
        return all(window.row.done() for window in self._running)

    def rest(self) -> Iterator[Row]:
        """Yield the remaining rows; waits for the network."""
        while self._running:
            with timed("waiting for the network"):
                row = result_of(self._running.popleft().row)
            yield row

    def cancel(self) -> None:
        """Cancel the windows that have not started."""
        for window in (*self._needed, *self._running):
            window.row.cancel()
        for group in self._groups:
            group.cancel()

    def _preprocess(self, item: Frame | Excerpt | Row) -> Preprocessed:
        held = _hold(item)
        if not self._groups or not self._groups[-1].is_open:
            try:
                self._wait_for_group_slot()
            except BaseException:
                if held is not None:
                    held.release()
                raise
            self._groups.append(PreprocessGroup(self._stream, self._group_size))
        preprocessed = self._groups[-1].add(item, held)
        self._first = self._first or preprocessed
        self._check_memory()
        return preprocessed

    def _wait_for_group_slot(self) -> None:
        while self._groups and (self._groups[0].arrays.done() or len(self._groups) >= self._max_groups):
            with timed("waiting for preprocessing"):
                group = self._groups.popleft()
                with suppress(Exception):  # the windows report it
                    result_of(group.arrays)

    def _check_memory(self, *, wait: bool = False) -> None:
        """Raise SettingsError, once the first item has been preprocessed, if the items of a row do not fit in memory.

        Makes batches smaller if a full batch does not fit.

        wait: wait for the first item
        """
        if self._is_memory_checked or self._first is None:
            return
        group = self._first.group
        if wait:
            group.begin()
        elif group.is_open or not group.arrays.done():
            return
        self._is_memory_checked = True
        try:
            first = self._first.prepared()
        except Exception:  # the windows report it
            return
        window, downstream = self._stream.window, self._downstream or Window()
        self._stream.check_memory((downstream.size - 1) * window.step + window.size, first.nbytes)
        if (rows := rows_that_fit(window.size * first.nbytes)) < self._batch_size:
            self._batch_size = rows
            self.flush()  # the windows that wait for a batch of the old size

    def _add(self, items: Sequence[Preprocessed], padding: int) -> None:
        index, self._window_count = self._window_count, self._window_count + 1
        if self._downstream is not None and not self._downstream.holds(index):
            return
        assert self._first is not None
        self._needed.append(PendingWindow(items, padding, self._first))
        if self._downstream is None:
            self._submit()
        elif self._downstream.completes(index):
            self._submit()
            self.flush()

    def _submit(self) -> None:
        for window in self._needed:
            self._running.append(window)
            self._batches.add(self._stream, self._batch_size, window)
        self._needed = []


def _hold(item: Frame | Excerpt | Row) -> Held | None:
    """Count the memory that a frame needs until it is preprocessed; waits until it fits.

    Raises MediaError if the frame alone needs more than the limit.
    """
    if not isinstance(item, Frame) or item.size is None:
        return None
    height, width = item.size
    needed, limit = height * width * BYTES_PER_PIXEL, memory().limit
    if needed > limit:
        raise MediaError(
            f"a frame of {width} × {height} pixels needs {in_gigabytes(needed)}, more than "
            f"memory_limit={in_gigabytes(limit)}; give a higher memory_limit (--memory-limit), or a smaller video"
        )
    return memory().hold_frame(needed, begin_open_groups)
