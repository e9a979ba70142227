"""Defines `Stream`: one output of a feature, computed by a network on windows of frames, sound or other rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MediaError, SettingsError, WeightsError, counted
from ..features import Class
from ..runtimes.base import Array, NetworkSpec, Placement
from ..runtimes.choose import Runner
from ..runtimes.devices import default_batch_size
from ..runtimes.memory import in_gigabytes, memory
from ..timeline.segments import Segment
from ..timeline.windows import Window
from ..weights import LocalWeights, Weights
from ..weights.obtain import FETCH, obtain, verify
from .sampling import Sampler
from .transforms import single

if TYPE_CHECKING:
    from torch import nn

# A row needs its preprocessed frames, their copy as one clip, and what the first layers of the network make of that,
# several times as much.
COPIES_OF_WINDOW = 8
# Windows of fewer frames fit in memory on any machine, unless the preprocessed frames are large.
MANY_FRAMES = 1024
PROBE = (256, 256, 3)


def identity(features: Array, preprocessed: tuple[int, ...]) -> Array:
    """Return the features unchanged: the network's features are the rows."""
    return features


@dataclass(kw_only=True)
class Stream:
    """One output of a feature: a network on windows of frames, of excerpts of sound, or of another stream's rows.

    key: the name of the values; the feature's name if the feature has a single stream
    model: the network's name, for messages
    weights: the checkpoint
    weights_setting: the setting that selects another checkpoint, for messages
    build_network: path of the checkpoint → network; the network maps a batch (B, …) to features (B, …) and to logits
        (B, classes) or None
    row_shape: the shape of one row. If rows are as large as frames and do not fit in memory for a whole video: a
        function of the video's height and width, which raises MediaError for a size that the network cannot take
    preprocess: applied once to every frame, uint8 (H, W, 3) RGB, to every excerpt, float32 (n,), or to every row of
        `over`; returns an array, of the same shape for the whole video. Called from several threads at once
    encodes: True if the network has a method `encode`, batch (B, …) → one or several tensors (B, …). The method is then
        applied once to every preprocessed item, and windows hold its results
    window: the window of items for each row
    collate: items of a window → one input of the network: an array or a list of arrays
    postprocess: features (B, …) and the shape of a preprocessed item → rows (B, *row_shape)
    dtype: dtype of the stored rows
    over: the stream whose rows are the items; None if the items are frames or excerpts
    labels: the names of the classes, if predictions were requested
    Raises ValueError if `over` pads its tail: only the last stream of a chain may.
    """

    key: str
    model: str
    weights: Weights
    weights_setting: str = "weights"
    build_network: Callable[[Path], nn.Module]
    row_shape: tuple[int, ...] | Callable[[int, int], tuple[int, ...]]
    preprocess: Callable[[Any], Array]
    encodes: bool = False
    window: Window = field(default_factory=Window)
    collate: Callable[[Sequence[Any]], Any] = single
    postprocess: Callable[[Array, tuple[int, ...]], Array] = identity
    dtype: type[np.floating[Any]] = np.float32
    over: Stream | None = None
    labels: Sequence[str] | None = None
    fetch_command: str = field(default=FETCH, init=False, repr=False, compare=False)  # set by the `Extractor`
    run: Runner = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.over is not None and self.over.window.tail == "pad":
            raise ValueError(
                f"{self.key}: only the last stream of a chain may pad its tail; set tail='drop' for {self.over.key}"
            )

    @property
    def rows_are_pictures(self) -> bool:
        """True if a row is as large as a frame of the video, possibly resized."""
        return callable(self.row_shape)

    @cached_property
    def local_weights(self) -> LocalWeights:
        """The verified weights on this machine, downloaded if missing. Raises WeightsError."""
        return obtain(self.weights, model=self.model, setting=self.weights_setting, command=self.fetch_command)

    def on(self, placement: Placement, cache_key: str) -> None:
        """Load the network for the device and runtime of `placement`.

        cache_key: together with the weights, identifies the network in a cache of converted networks
        """
        path = self.local_weights.path
        key = f"{self.key} {self.model} {self.local_weights.sha256} {self.labels} {cache_key}"
        network = NetworkSpec(self.model, lambda: self._build(path), key, passes_are_long=self.window != Window())
        self.run = Runner(network, placement)

    def _build(self, path: Path) -> nn.Module:
        """Build the network, and make sure that its weights are those that the records name."""
        network = self.build_network(path)
        if verify(path, self.local_weights.record) != self.local_weights.sha256:
            raise WeightsError(f"{path}: has changed since its digest was computed: start again")
        return network

    def batch_size(self, requested: int | None) -> int:
        """Return the number of rows in a network pass.

        requested: the user's batch size; None for the default
        """
        if requested is not None:
            return min(requested, self.run.runtime.max_rows or requested)
        if self.rows_are_pictures:  # memory grows with the size of the frames
            return 1
        return default_batch_size(self.window.size, self.run.device)

    def chain(self) -> list[Stream]:
        """Return the streams from frames or sound up to this stream, which comes last."""
        return [*(self.over.chain() if self.over else []), self]

    @property
    def frames_per_row(self) -> int:
        """The number of frames or excerpts, repeated ones included, that are in memory together for a row."""
        frames = 1
        for stream in reversed(self.chain()):
            frames = (frames - 1) * stream.window.step + stream.window.size
        return frames

    def check_memory(self, frames: int, frame_bytes: int) -> None:
        """Raise SettingsError if the frames, or other items, of a row do not fit in memory.

        frames: their number; a pair of frames, as for flow, always passes, as no setting makes it smaller
        frame_bytes: the size of a preprocessed frame
        """
        needed, limit = frames * frame_bytes * COPIES_OF_WINDOW, memory().limit
        if frames > 2 and needed > limit:
            raise SettingsError(
                f"stack_size is too large for the memory: a row of {self.key} takes {counted(frames, 'frame')} of "
                f"{in_gigabytes(frame_bytes)} and about {COPIES_OF_WINDOW} times their memory, {in_gigabytes(needed)}, "
                f"more than memory_limit={in_gigabytes(limit)}; give a smaller stack_size, or a higher memory_limit"
            )

    def check_memory_before_reading(self) -> None:
        """Raise SettingsError if a row takes many frames and they do not fit in memory, whatever the video.

        The size of a preprocessed frame is found with a small grey picture, as most networks take one size only.
        """
        if self.frames_per_row <= MANY_FRAMES:
            return
        try:
            preprocessed = np.asarray(self.chain()[0].preprocess(np.full(PROBE, 128, np.uint8)))
        except Exception:  # not a feature of frames, or not of frames this small: the first frame will tell
            return
        self.check_memory(self.frames_per_row, preprocessed.nbytes)

    def rows(self, items: int) -> int:
        """Return the number of rows for `items` frames or excerpts."""
        for stream in self.chain():
            items = stream.window.rows(items)
        return items

    def required_items(self, *, padded: bool = False) -> int:
        """Return the number of frames or excerpts needed for one row.

        padded: assume a padded tail
        """
        required = 1
        for stream in reversed(self.chain()):
            if stream.window.tail == "drop" and not (padded and stream is self):
                required = (required - 1) * stream.window.step + stream.window.size
        return required


def rows_that_fit(row_bytes: int) -> int:
    """Return how many rows a batch may have at most, at least 1. row_bytes: the preprocessed items of a row"""
    return max(1, memory().limit // max(1, row_bytes * COPIES_OF_WINDOW))


def all_streams(streams: Sequence[Stream]) -> list[Stream]:
    """Return the streams and the streams that they depend on, each once, in the order of computation."""
    return list({id(link): link for stream in streams for link in stream.chain()}.values())


def rows_of(streams: Sequence[Stream], items: int) -> int:
    """Return the number of rows for `items` frames or windows of sound. All streams give the same number of rows."""
    return min(stream.rows(items) for stream in streams)


def check_length(feature: str, streams: Sequence[Stream], sampler: Sampler, taken: int) -> None:
    """Raise MediaError, stating the required length, if the selected frames or samples give no row.

    taken: number of frames, or samples of sound, that the sampler selected
    """
    if rows_of(streams, sampler.items(taken)):
        return

    def required(*, padded: bool) -> int:
        pads_windows = padded and sampler.can_pad_windows
        items = max(stream.required_items(padded=pads_windows) for stream in streams)
        return sampler.required(items, padded=padded)

    hint = f"; {sampler.rate_hint}" if sampler.rate_hint else ""
    if taken >= required(padded=True):
        hint = f"; tail=pad (--tail pad) {sampler.padding_hint}"
    where = "" if sampler.segment == Segment() else f" {sampler.segment.in_words()}"
    raise MediaError(
        f"too short for {feature}: {sampler.describe(taken)}{where}, "
        f"and one row needs at least {sampler.describe(required(padded=False))}{hint}"
    )


@dataclass(frozen=True)
class Span:
    """The time span of a row, with padding and predictions.

    seconds, end_seconds: start and end in seconds
    padding: number of frames in the row's window that are padding
    classes: the likeliest classes, best first, if predictions were requested
    """

    seconds: Fraction
    end_seconds: Fraction
    padding: int = 0
    classes: tuple[Class, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row: the values and the time span."""

    span: Span
    value: Array
