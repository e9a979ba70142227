"""Times decoding, preprocessing and the network alone, which bound the time of an extraction.

Code that depends on the internals of an extractor is only in this module, so that only one place needs changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from video_features import Extractor
from video_features.extraction.sampling import Excerpt
from video_features.media import Frame, MediaSource, open_source
from video_features.media.video import VideoTrack
from video_features.runtimes.threads import thread_pools
from video_features.timeline.segments import segment_of

CHUNK_SIZE = 32  # frames or pieces of sound that are held in memory

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A network or its `encode` method, and the arguments of the call: the batch and the size of a full batch"""


class _Recorded:
    """A wrapper of a stream's `run` that records each call."""

    def __init__(self, run: Any, calls: list[Call]) -> None:
        self._run = run
        self._calls = calls

    def __call__(self, *args: Any) -> Any:
        self._calls.append((self._run, args))
        return self._run(*args)

    def encode(self, *args: Any) -> Any:
        self._calls.append((self._run.encode, args))
        return self._run.encode(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


@contextmanager
def recorded_batches(extractor: Extractor) -> Iterator[list[Call]]:
    """Record the batches that pass through the extractor's networks inside the context, in order."""
    calls: list[Call] = []
    streams = extractor.all_streams()
    runs = [stream.run for stream in streams]
    for stream, run in zip(streams, runs, strict=True):
        stream.run = _Recorded(run, calls)  # type: ignore[assignment]
    try:
        yield calls
    finally:
        for stream, run in zip(streams, runs, strict=True):
            stream.run = run


def network_alone(batches: list[Call]) -> float:
    """Seconds to run all batches through the networks, as many at once as in an extraction, on all cores."""
    before = time.perf_counter()
    for _ in thread_pools().networks.map(lambda call: call[0](*call[1]), batches):
        pass
    return time.perf_counter() - before


def decode_alone(extractor: Extractor, path: Path, end_seconds: float | None) -> tuple[float, float]:
    """Seconds to read the frames or the sound up to `end_seconds`, and the seconds of video or sound that were read."""
    before, reached = time.perf_counter(), 0.0
    with _opened(path, end_seconds) as source:
        for sample in _samples(extractor, source):
            reached = float(sample.end_seconds)
    return time.perf_counter() - before, reached


def preprocessing_alone(extractor: Extractor, path: Path, end_seconds: float | None) -> float:
    """Seconds for the work between the decoder and the network, in one thread.

    For frames: conversion to RGB and preprocessing of the selected frames. For sound: resampling, cutting into windows
    and preprocessing.
    """
    (last,) = extractor.streams
    preprocess, seconds = last.chain()[0].preprocess, 0.0
    with _opened(path, end_seconds) as source:
        sampler = extractor.sampler(source)
        samples = _samples(extractor, source)
        # Hold only a few samples at a time. If all were held, the plain loop could later reuse their freed memory
        # without page faults, which would make it look faster than it is.
        while chunk := list(islice(samples, CHUNK_SIZE)):
            before = time.perf_counter()
            for sample in chunk:
                _preprocess(preprocess, sampler.take(sample))
            seconds += time.perf_counter() - before
        before = time.perf_counter()
        _preprocess(preprocess, sampler.finish())
        return seconds + time.perf_counter() - before


def _preprocess(preprocess: Callable[[Any], Any], items: Iterator[Frame | Excerpt]) -> None:
    for item in items:
        preprocess(item.rgb if isinstance(item, Frame) else item.samples)


@contextmanager
def counted_frames() -> Iterator[list[int]]:
    """Count the video frames that are decoded inside the context. The list has one item, the count."""
    decoded, original = [0], VideoTrack._to_samples

    def counting(self: VideoTrack, frame: Any) -> Iterator[Frame]:
        decoded[0] += 1
        return original(self, frame)

    with mock.patch.object(VideoTrack, "_to_samples", counting):
        yield decoded


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of PyTorch's threads inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _opened(path: Path, end_seconds: float | None) -> MediaSource:
    return open_source(path, segment=segment_of(None, end_seconds))


def _samples(extractor: Extractor, source: MediaSource) -> Iterator[Any]:
    """Yield the samples of the feature's track up to the end of the segment."""
    track = extractor.track(source)
    for _, sample in source.samples([track]):
        if isinstance(sample, Exception):
            raise sample
        yield sample
        if source.segment is not None and source.segment.is_over(sample.end_seconds):
            return
