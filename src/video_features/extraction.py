"""The straight line, for one video and one or more features:

frames → resample → windows → preprocess → batch → network → rows with start and end
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .errors import MediaError
from .features import Features
from .media import RGB, Frame, FrameSource, Source, open_source
from .predictions import Prediction, top_classes
from .runtime import Runner
from .settings import FrameSettings, that_change_values
from .weights import LocalWeights
from .windows import ConstantRate, Window, Windower, as_rate, rate_for_total

LIBRARIES = ("video_features", "torch", "torchvision", "timm", "open_clip_torch", "av", "pillow", "numpy")


@dataclass(kw_only=True)
class Extractor:
    """Everything that one feature needs, ready to run; a family builds it, `load` puts it on a device.

    feature: the feature's name, and the key of its values
    settings: which network, at which rate, in which batches
    weights: the checkpoint that `network` was loaded from
    preprocess: a window's frames, each uint8 (H, W, 3) RGB → one input of the network, float32
    network: batch (B, …) → features (B, D), logits (B, classes) or None
    labels: the classes' names, where predictions were asked for
    """

    feature: str
    settings: FrameSettings
    weights: LocalWeights
    preprocess: Callable[[Sequence[RGB]], Tensor]
    network: nn.Module
    window: Window = field(default_factory=Window)
    labels: Sequence[str] | None = None
    run: Runner = field(init=False)

    def on(self, device: torch.device) -> Extractor:
        """Put the network on `device` and return the extractor."""
        self.run = Runner(self.network, device)
        return self

    def extract(self, source: Source, *, source_fps: float | None = None) -> Features:
        """The features of one video, folder of images or array; see `open_source` for what these may be.

        source_fps: frames per second of a folder of images or an array
        Raises MediaError if it cannot be read to its end, or is too short for one row.
        """
        with open_source(source, fps=source_fps) as opened:
            result = extract_from(opened, [self])[0]
        if isinstance(result, Exception):
            raise result
        return result


def extract_from(
    source: FrameSource,
    extractors: Sequence[Extractor],
    on_progress: Callable[[float], object] = lambda seconds: None,
) -> list[Features | Exception]:
    """Decode the source once and give every extractor its frames: its features, or what kept it from them.

    on_progress: told after each frame how many seconds of the source are done
    Raises MediaError where the source itself fails: no extractor has features then.
    """
    lines = [_Line(extractor, source) for extractor in extractors]
    for frame in source.frames():
        for line in lines:
            line.push(frame)
        if all(line.failed for line in lines):
            break
        on_progress(float(frame.end_seconds))
    return [line.finish() for line in lines]


class _Line:
    """One extractor's way through one source: frames in, rows out. Holds a window, a batch, and the rows."""

    def __init__(self, extractor: Extractor, source: FrameSource) -> None:
        self._extractor = extractor
        self._source = source
        self._rate = _rate(extractor.settings, source)
        self._constant = ConstantRate(self._rate) if self._rate is not None else None
        self._windower: Windower[Frame] = Windower(extractor.window)
        self._batch_size = extractor.settings.batch_size or (1 if extractor.run.device.type == "cpu" else 16)
        self._frames = 0
        self._inputs: list[Tensor] = []
        self._spans: list[tuple[float, float]] = []
        self._rows: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        self._predictions: list[Prediction] = []
        self._error: Exception | None = None

    @property
    def failed(self) -> bool:
        return self._error is not None

    def push(self, frame: Frame) -> None:
        if self._error is None:
            try:
                self._push(frame)
            except Exception as error:  # the other features of this video go on
                self._error = error

    def finish(self) -> Features | Exception:
        if self._error is None:
            try:
                self._run_batch()
                return self._features()
            except Exception as error:
                self._error = error
        return self._error

    def _push(self, frame: Frame) -> None:
        for shown in self._resampled(frame):
            if self._frames == self._extractor.settings.extraction_total:
                return
            self._frames += 1
            window = self._windower.push(shown)
            if window is None:
                continue
            self._inputs.append(self._extractor.preprocess([one.rgb for one in window]))
            self._spans.append((float(window[0].seconds), float(window[-1].end_seconds)))
            if len(self._inputs) == self._batch_size:
                self._run_batch()

    def _resampled(self, frame: Frame) -> Iterator[Frame]:
        if self._constant is None or self._rate is None:
            yield frame
            return
        for tick in self._constant.ticks(frame.seconds, frame.end_seconds):
            yield frame.shown(tick / self._rate, (tick + 1) / self._rate)

    def _run_batch(self) -> None:
        if not self._inputs:
            return
        features, logits = self._extractor.run(torch.stack(self._inputs))
        self._inputs.clear()
        if logits is not None and self._extractor.labels is not None:
            spans = self._spans[len(self._predictions) :]
            classes = top_classes(logits, self._extractor.labels)
            self._predictions += [Prediction(*span, one) for span, one in zip(spans, classes, strict=True)]
        self._rows.append(features.numpy())

    def _features(self) -> Features:
        if not self._rows:
            raise MediaError(self._too_short())
        starts, ends = zip(*self._spans, strict=True)
        values = {self._extractor.feature: np.concatenate(self._rows)}
        return Features(
            values=values,
            start_seconds=np.array(starts),
            end_seconds=np.array(ends),
            fps=float(self._source.fps if self._rate is None else self._rate),
            predictions=None if self._extractor.labels is None else self._predictions,
            record={
                **describe(self._extractor),
                "source": describe_source(self._source),
                "shapes": {key: list(array.shape) for key, array in values.items()},
            },
        )

    def _too_short(self) -> str:
        at = "" if self._rate is None else f" at {float(self._rate):g} fps"
        return (
            f"{self._source.location}: too short for {self._extractor.feature}: "
            f"{self._frames} frames{at}, and one row needs {self._extractor.window.size}"
        )


def _rate(settings: FrameSettings, source: FrameSource) -> Fraction | None:
    """The constant rate at which frames are taken; None: every frame as it comes."""
    if settings.extraction_fps is not None:
        return as_rate(settings.extraction_fps)
    if settings.extraction_total is not None:
        return rate_for_total(settings.extraction_total, source.fps, source.frame_count())
    return None


def describe(extractor: Extractor) -> dict[str, Any]:
    """What decides the numbers, and what helps to trace them: feature, settings, weights, versions."""
    record = extractor.weights.record
    return {
        "feature": extractor.feature,
        "settings": that_change_values(extractor.settings),
        "weights": {
            "sha256": extractor.weights.sha256,
            "source": record.source,
            "file": str(extractor.weights.path),
            "licence": record.licence,
            "paper": record.paper,
            "trained_on": record.trained_on,
        },
        "versions": {"python": platform.python_version(), **_versions()},
    }


@cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def describe_source(source: FrameSource) -> dict[str, Any]:
    return {
        "path": source.address,
        "size_bytes": source.size_bytes,
        "duration_seconds": source.duration_seconds,
        "fps": float(source.fps),
    }
