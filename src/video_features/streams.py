"""From frames to the rows of one output: windows, batches, a network; and streams over the rows of other streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .media import Frame
from .predictions import Class, top_classes
from .runtime import Runner, default_batch_size
from .transforms import the_only
from .weights import LocalWeights, Weights, obtain
from .windows import Window, Windower


@dataclass(kw_only=True)
class Stream:
    """One output of a feature: windows, of frames or of another stream's rows, through one network.

    key: the name of its values; the feature's own name where the feature has one stream
    model: the network's name, for messages
    weights: the checkpoint
    build_network: the checkpoint's file → the network, which is batch (B, …) → features (B, *row_shape) and logits
        (B, classes) or None
    row_shape: the shape of one row
    preprocess: done once to every frame, uint8 (H, W, 3) RGB, or to every row of `over`, → float32 tensor
    window: how many of them make a row
    collate: those of a window → one input of the network
    over: the stream whose rows the windows are made of; None: frames
    labels: the classes' names, where predictions were asked for
    """

    key: str
    model: str
    weights: Weights
    build_network: Callable[[Path], nn.Module]
    row_shape: tuple[int, ...]
    preprocess: Callable[[Any], Tensor]
    window: Window = field(default_factory=Window)
    collate: Callable[[Sequence[Tensor]], Tensor] = the_only
    over: Stream | None = None
    labels: Sequence[str] | None = None
    local_weights: LocalWeights = field(init=False, repr=False, compare=False)
    run: Runner = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.over is not None and self.over.window.tail == "pad":
            raise ValueError(f"{self.key}: only the last of a chain of streams may pad its tail, not {self.over.key}")

    def on(self, device: torch.device) -> None:
        """Fetch the weights where they are not here, and put the network on `device`."""
        self.local_weights = obtain(self.weights, model=self.model)
        self.run = Runner(self.build_network(self.local_weights.path), device)

    def chain(self) -> list[Stream]:
        """The streams from frames to this one, which comes last."""
        return [*(self.over.chain() if self.over else []), self]

    def rows(self, frames: int) -> int:
        """The number of rows that so many frames give."""
        items = frames
        for stream in self.chain():
            items = stream.window.rows(items)
        return items

    def least_frames(self) -> int:
        """The number of frames below which there is no row."""
        least = 1
        for stream in reversed(self.chain()):
            if stream.window.tail == "drop":
                least = (least - 1) * stream.window.step + stream.window.size
        return least


@dataclass(frozen=True)
class Timed:
    """A tensor, made from a frame or from a window of such, and the seconds that it covers.

    padding: how many items of its window repeat the last one
    classes: what it was taken for, where predictions were asked for
    """

    seconds: Fraction
    end_seconds: Fraction
    value: Tensor
    padding: int = 0
    classes: tuple[Class, ...] = ()


class Chain:
    """A stream, and those that it is over, for one source: frames in, rows out."""

    def __init__(self, stream: Stream, batch_size: int | None) -> None:
        self._stages = [_Stage(one, batch_size) for one in stream.chain()]

    def push(self, frame: Frame) -> list[Timed]:
        """The rows that are ready once the frame has gone through."""
        first, *others = self._stages
        rows = first.push(frame)
        for stage in others:
            rows = [ready for row in rows for ready in stage.push(row)]
        return rows

    def finish(self) -> list[Timed]:
        """The rows that are left when all frames have gone through."""
        rows: list[Timed] = []
        for stage in self._stages:
            rows = [ready for row in rows for ready in stage.push(row)] + stage.finish()
        return rows


class _Stage:
    """One stream of one video: frames or rows in, rows out. Holds a window and a batch."""

    def __init__(self, stream: Stream, batch_size: int | None) -> None:
        self._stream = stream
        self._windower: Windower[Frame | Timed, Timed] = Windower(stream.window, self._prepared)
        self._batch_size = batch_size or default_batch_size(stream.window.size, stream.run.device)
        self._waiting: list[Timed] = []

    def push(self, item: Frame | Timed) -> list[Timed]:
        """The rows that are ready now."""
        window = self._windower.push(item)
        return [] if window is None else self._add(window, padding=0)

    def finish(self) -> list[Timed]:
        """The rows that are left when nothing more comes."""
        tail = self._windower.finish()
        rows = []
        if tail is not None:
            padding = self._stream.window.size - len(tail)
            rows = self._add([*tail, *([tail[-1]] * padding)], padding)
        return rows + self._run()

    def _prepared(self, item: Frame | Timed) -> Timed:
        value = item.rgb if isinstance(item, Frame) else item.value
        return Timed(item.seconds, item.end_seconds, self._stream.preprocess(value))

    def _add(self, window: list[Timed], padding: int) -> list[Timed]:
        network_input = self._stream.collate([item.value for item in window])
        self._waiting.append(Timed(window[0].seconds, window[-1].end_seconds, network_input, padding))
        return self._run() if len(self._waiting) == self._batch_size else []

    def _run(self) -> list[Timed]:
        if not self._waiting:
            return []
        batch, self._waiting = self._waiting, []
        values, logits = self._stream.run(torch.stack([one.value for one in batch]))
        classes: Sequence[tuple[Class, ...]] = [()] * len(batch)
        if logits is not None and self._stream.labels is not None:
            classes = list(top_classes(logits, self._stream.labels))
        return [
            Timed(one.seconds, one.end_seconds, value, one.padding, best)
            for one, value, best in zip(batch, values, classes, strict=True)
        ]
