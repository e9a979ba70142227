"""What takes a store's answer, asked for several things at once, each a little before its turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 32


def ahead(ask: Callable[[T], R], items: Iterable[T], *, if_far: Callable[[T], bool]) -> Iterator[tuple[T, R]]:
    """Each item with its answer, in order. Raises what `ask` raises, at the item's turn.

    if_far: tells for which items to ask while the answers to some before it are awaited; for the others at their turn
    """
    pool = ThreadPoolExecutor(AT_ONCE, "ask")
    waiting: deque[tuple[T, Future[R] | None]] = deque()

    def first() -> tuple[T, R]:
        item, answer = waiting.popleft()
        return item, ask(item) if answer is None else answer.result()

    try:
        for item in items:
            waiting.append((item, pool.submit(ask, item) if if_far(item) else None))
            while waiting and (waiting[0][1] is None or len(waiting) == AT_ONCE):
                yield first()
        while waiting:
            yield first()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
