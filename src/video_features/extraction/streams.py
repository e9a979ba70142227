"""What the rows of one output are made of, and by which network; streams of frames or sound, and over others' rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import MediaError
from ..features import Class
from ..runtimes.base import NetworkSpec, Placement
from ..runtimes.choose import Runner
from ..runtimes.devices import default_batch_size
from ..timeline.segments import Segment
from ..timeline.windows import Window
from ..weights import LocalWeights, Weights, obtain
from .sampling import Sampler
from .transforms import single


def identity(features: Tensor, preprocessed: torch.Size) -> Tensor:
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
        `over`, → a tensor, of one shape for a whole video; in several threads at once
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
    collate: Callable[[Sequence[Any]], Any] = single
    postprocess: Callable[[Tensor, torch.Size], Tensor] = identity
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

    def on(self, placement: Placement, cache_key: str) -> None:
        """Put the network where it is to run. cache_key: with its weights, tells it from every other network"""
        path = self.local_weights.path
        key = f"{self.key} {self.model} {self.local_weights.sha256} {self.labels} {cache_key}"
        network = NetworkSpec(
            self.model, lambda: self.build_network(path), key, passes_are_long=self.window != Window()
        )
        self.run = Runner(network, placement)

    def batch_size(self, asked: int | None) -> int:
        """How many rows a pass makes; asked: how many it may, as the user said."""
        if asked is not None:
            return min(asked, self.run.runtime.most_rows or asked)
        if self.rows_are_pictures:  # the memory that these take grows with their size
            return 1
        return default_batch_size(self.window.size, self.run.device)

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


def all_streams(streams: Sequence[Stream]) -> list[Stream]:
    """These streams and those that they are over, each once, in the order in which they are computed."""
    return list({id(stream): stream for last in streams for stream in last.chain()}.values())


def rows_of(streams: Sequence[Stream], items: int) -> int:
    """The number of rows that so many frames, or windows of sound, give: all streams have equally many."""
    return min(stream.rows(items) for stream in streams)


def check_length(feature: str, streams: Sequence[Stream], sampler: Sampler, taken: int) -> None:
    """Raise MediaError, with the least that is needed, where what the sampler took gives no row.

    taken: frames, or samples of sound
    """
    if rows_of(streams, sampler.items(taken)):
        return

    def least(*, padded: bool) -> int:
        pads_windows = padded and sampler.can_pad_windows
        return sampler.least(max(one.least_frames(padded=pads_windows) for one in streams), padded=padded)

    hint = f"; {sampler.takes_more}" if sampler.takes_more else ""
    if taken >= least(padded=True):
        hint = f"; tail=pad (--tail pad) {sampler.padded_with}"
    where = "" if sampler.segment == Segment() else f" {sampler.segment.in_words()}"
    raise MediaError(
        f"too short for {feature}: {sampler.in_words(taken)}{where}, "
        f"and one row needs at least {sampler.in_words(least(padded=False))}{hint}"
    )


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
