"""From frames or sound to the rows of one output: windows, batches, a network; and streams over others' rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from .errors import MediaError
from .media import Frame
from .predictions import Class, top_classes
from .runtime import Runner, default_batch_size
from .sampling import Excerpt
from .transforms import the_only
from .weights import LocalWeights, Weights, obtain
from .windows import Window, Windower


def as_it_is(features: Tensor, preprocessed: torch.Size) -> Tensor:
    """Features that are rows already."""
    return features


@dataclass(kw_only=True)
class Stream:
    """One output of a feature: windows, of frames, of excerpts of sound or of another stream's rows, and a network.

    key: the name of its values; the feature's own name where the feature has one stream
    model: the network's name, for messages
    weights: the checkpoint
    weights_setting: the setting that takes another one, for messages
    build_network: the checkpoint's file → the network, which is batch (B, …) → features (B, …) and logits (B, classes)
        or None
    row_shape: the shape of one row; of rows that are pictures, which do not fit in memory for a whole video, a
        function of the video's height and width, which raises MediaError where these cannot be
    preprocess: done once to every frame, uint8 (H, W, 3) RGB, to every excerpt, float32 (n,), or to every row of
        `over`, → a tensor, of one shape for a whole video
    encodes: whether the network's method `encode`, batch (B, …) → a tensor or several, each (B, …), is done once to
        everything preprocessed, and windows are made of what it gives
    window: how many of them make a row
    collate: those of a window → one input of the network: a tensor, or a list of such
    postprocess: features (B, …) and the shape of what was preprocessed → rows (B, *row_shape)
    dtype: of the rows as they are kept
    over: the stream whose rows the windows are made of; None: frames or excerpts
    labels: the classes' names, where predictions were asked for
    """

    key: str
    model: str
    weights: Weights
    weights_setting: str = "weights"
    build_network: Callable[[Path], nn.Module]
    row_shape: tuple[int, ...] | Callable[[int, int], tuple[int, ...]]
    preprocess: Callable[[Any], Tensor]
    encodes: bool = False
    window: Window = field(default_factory=Window)
    collate: Callable[[Sequence[Any]], Any] = the_only
    postprocess: Callable[[Tensor, torch.Size], Tensor] = as_it_is
    dtype: type[np.floating[Any]] = np.float32
    over: Stream | None = None
    labels: Sequence[str] | None = None
    run: Runner = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.over is not None and self.over.window.tail == "pad":
            raise ValueError(f"{self.key}: only the last of a chain of streams may pad its tail, not {self.over.key}")

    @property
    def rows_are_pictures(self) -> bool:
        """Whether a row is as large as the video's pictures, or as they are once resized."""
        return callable(self.row_shape)

    @cached_property
    def local_weights(self) -> LocalWeights:
        """The weights on this machine, verified; fetched where they are not here. Raises WeightsError."""
        return obtain(self.weights, model=self.model, setting=self.weights_setting)

    def on(self, device: torch.device) -> None:
        """Put the network on `device`."""
        self.run = Runner(self.build_network(self.local_weights.path), device)

    def chain(self) -> list[Stream]:
        """The streams from frames or sound to this one, which comes last."""
        return [*(self.over.chain() if self.over else []), self]

    def rows(self, items: int) -> int:
        """The number of rows that so many frames, or excerpts, give."""
        for stream in self.chain():
            items = stream.window.rows(items)
        return items

    def least_frames(self, *, padded: bool = False) -> int:
        """The number of frames below which there is no row; padded: if the tail were padded."""
        least = 1
        for stream in reversed(self.chain()):
            if stream.window.tail == "drop" and not (padded and stream is self):
                least = (least - 1) * stream.window.step + stream.window.size
        return least


@dataclass(frozen=True)
class Span:
    """The seconds that a row covers, and what else is known of it.

    padding: how many frames of its window are not the video's own, but fill it up
    classes: what it was taken for, where predictions were asked for
    """

    seconds: Fraction
    end_seconds: Fraction
    padding: int = 0
    classes: tuple[Class, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row."""

    span: Span
    value: Tensor


class Chain:
    """A stream, and those that it is over, for one source: frames or excerpts in, rows out, on the CPU."""

    def __init__(self, stream: Stream, batch_size: int | None) -> None:
        chain = stream.chain()
        # A stream over single rows waits for none, and has them in batches.
        windows = [*(None if one.window == Window() else one.window for one in chain[1:]), None]
        self._stages = [_Stage(one, over_it, batch_size) for one, over_it in zip(chain, windows, strict=True)]

    def push(self, item: Frame | Excerpt) -> list[Row]:
        """The rows that are ready once the frame or excerpt has gone through."""
        first, *others = self._stages
        rows = first.push(item)
        for stage in others:
            rows = [ready for row in rows for ready in stage.push(row)]
        return rows

    def finish(self) -> list[Row]:
        """The rows that are left when everything has gone through."""
        rows: list[Row] = []
        for stage in self._stages:
            rows = [ready for row in rows for ready in stage.push(row)] + stage.finish()
        return rows


@dataclass
class _Item:
    """What windows are made of: a frame, an excerpt or a row, preprocessed, and once it is needed encoded."""

    span: Span
    value: Any
    is_encoded: bool = False


@dataclass(frozen=True)
class _Filled:
    """A window that waits for its batch; the last `padding` of its items repeat the one before."""

    items: Sequence[_Item]
    padding: int

    @property
    def span(self) -> Span:
        padding = self.padding + sum(item.span.padding for item in self.items)
        return Span(self.items[0].span.seconds, self.items[-1].span.end_seconds, padding)


class _Stage:
    """One stream of one video: frames, excerpts or rows in, rows out. Holds a window and a batch.

    over_it: the window of the stream that is over this one, where it is of several rows. Rows are computed once they
        fill it, and those that lie in its gaps, or are dropped with the tail, never; it gets the others as if there
        were no gaps.
    """

    def __init__(self, stream: Stream, over_it: Window | None, batch_size: int | None) -> None:
        window = stream.window
        if stream.over is not None:
            window = replace(window, step=min(window.step, window.size))
        self._stream = stream
        self._over_it = over_it
        self._windower: Windower[Frame | Excerpt | Row, _Item] = Windower(window, self._prepared)
        self._batch_size = batch_size or self._default_batch_size()
        self._windows = 0
        self._waiting: list[_Filled] = []
        self._shape: torch.Size | None = None  # of what was preprocessed

    def push(self, item: Frame | Excerpt | Row) -> list[Row]:
        """The rows that are ready now."""
        window = self._windower.push(item)
        return [] if window is None else self._add(_Filled(window, padding=0))

    def finish(self) -> list[Row]:
        """The rows that are left when nothing more comes."""
        if self._over_it is not None and self._over_it.tail == "drop":
            return []
        tail = self._windower.finish()
        rows = []
        if tail is not None:
            padding = self._stream.window.size - len(tail)
            rows = self._add(_Filled([*tail, *([tail[-1]] * padding)], padding))
        return rows + self._run()

    def _default_batch_size(self) -> int:
        if self._stream.rows_are_pictures:  # the memory that these take grows with their size
            return 1
        return default_batch_size(self._stream.window.size, self._stream.run.device)

    def _prepared(self, item: Frame | Excerpt | Row) -> _Item:
        span = _span(item)
        prepared = self._stream.preprocess(_value(item))
        self._shape = self._shape or prepared.shape
        if prepared.shape != self._shape:
            before, now = (" × ".join(map(str, shape)) for shape in (self._shape, prepared.shape))
            raise MediaError(
                f"its pictures change their size at {float(span.seconds):.2f} s, and {self._stream.model} needs one "
                f"(prepared as {before} so far, as {now} from there on); split the video there, or re-encode it"
            )
        return _Item(span, prepared)

    def _add(self, window: _Filled) -> list[Row]:
        place, self._windows = self._windows, self._windows + 1
        if self._over_it is None or self._over_it.holds(place):
            self._waiting.append(window)
        are_enough = len(self._waiting) == self._batch_size if self._over_it is None else self._over_it.completes(place)
        return self._run() if are_enough else []

    def _run(self) -> list[Row]:
        windows, self._waiting = self._waiting, []
        batches = (windows[start : start + self._batch_size] for start in range(0, len(windows), self._batch_size))
        return [row for batch in batches for row in self._run_batch(batch)]

    def _run_batch(self, windows: Sequence[_Filled]) -> list[Row]:
        if self._stream.encodes:
            self._encode([item for window in windows for item in window.items if not item.is_encoded])
        batch = default_collate([self._stream.collate([item.value for item in window.items]) for window in windows])
        features, logits = self._stream.run(batch)
        assert self._shape is not None
        values = self._stream.postprocess(features, self._shape)
        if self._over_it is None:  # what another stream goes on with stays where it is
            values = values.cpu()
        classes: Iterable[tuple[Class, ...]] = [()] * len(windows)
        if logits is not None and self._stream.labels is not None:
            classes = top_classes(logits, self._stream.labels)
        return [
            Row(replace(window.span, classes=best), value)
            for window, value, best in zip(windows, values, classes, strict=True)
        ]

    def _encode(self, items: Sequence[_Item]) -> None:
        """Encode each of the items, which may be there twice, once."""
        fresh = list({id(item): item for item in items}.values())
        if not fresh:
            return
        codes = self._stream.run.encode(torch.stack([item.value for item in fresh]))
        for item, code in zip(fresh, codes if isinstance(codes, Tensor) else zip(*codes, strict=True), strict=True):
            item.value, item.is_encoded = code, True


def _span(item: Frame | Excerpt | Row) -> Span:
    if isinstance(item, Row):
        return item.span
    return Span(item.seconds, item.end_seconds, item.padding if isinstance(item, Excerpt) else 0)


def _value(item: Frame | Excerpt | Row) -> Any:
    if isinstance(item, Row):
        return item.value
    return item.rgb if isinstance(item, Frame) else item.samples
