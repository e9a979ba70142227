"""What bounds the time of an extraction: decoding alone, preprocessing alone, and the network alone.

All that knows how an extractor works inside is here, so that there is one place to adapt.
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

HELD = 32  # frames, or pieces of sound

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A network, or its `encode`, and the batch that it was given, with the size of a full one"""


class _Recorded:
    """A stream's `run` that also keeps what it is given."""

    def __init__(self, run: Any, calls: list[Call]) -> None:
        self._run = run
        self._calls = calls

    def __call__(self, *given: Any) -> Any:
        self._calls.append((self._run, given))
        return self._run(*given)

    def encode(self, *given: Any) -> Any:
        self._calls.append((self._run.encode, given))
        return self._run.encode(*given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


@contextmanager
def recorded_batches(extractor: Extractor) -> Iterator[list[Call]]:
    """The batches that go through the extractor's networks meanwhile, in their order."""
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
    """Seconds for all batches through the networks, as many at once as a feature has, on all cores."""
    before = time.perf_counter()
    for _ in thread_pools().networks.map(lambda call: call[0](*call[1]), batches):
        pass
    return time.perf_counter() - before


def decode_alone(extractor: Extractor, path: Path, end_seconds: float | None) -> tuple[float, float]:
    """Seconds for reading the frames, or the sound, of the part; and the seconds of video that it has."""
    before, reached = time.perf_counter(), 0.0
    with _opened(path, end_seconds) as source:
        for sample in _samples(extractor, source):
            reached = float(sample.end_seconds)
    return time.perf_counter() - before, reached


def preprocessing_alone(extractor: Extractor, path: Path, end_seconds: float | None) -> float:
    """Seconds for what lies between the decoder and the network, in one thread: of the frames that the feature takes,
    their conversion to RGB and preprocessing; of sound, resampling, windows and preprocessing."""
    (last,) = extractor.streams
    preprocess, seconds = last.chain()[0].preprocess, 0.0
    with _opened(path, end_seconds) as source, threads(1):
        sampler = extractor.sampler(source)
        samples = _samples(extractor, source)
        # A few at a time: the memory of all, once it is free, would serve the plain loop without a single page fault.
        while some := list(islice(samples, HELD)):
            before = time.perf_counter()
            for sample in some:
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
    """The number of frames of video that are decoded meanwhile, in a list of one."""
    decoded, before = [0], VideoTrack._samples

    def counting(self: VideoTrack, frame: Any) -> Iterator[Frame]:
        decoded[0] += 1
        return before(self, frame)

    with mock.patch.object(VideoTrack, "_samples", counting):
        yield decoded


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch computes in so many meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _opened(path: Path, end_seconds: float | None) -> MediaSource:
    return open_source(path, segment=segment_of(None, end_seconds))


def _samples(extractor: Extractor, source: MediaSource) -> Iterator[Any]:
    """Those of the feature's track, up to the segment's end."""
    track = extractor.track(source)
    for _, sample in source.samples([track]):
        if isinstance(sample, Exception):
            raise sample
        yield sample
        if source.segment is not None and source.segment.is_over(sample.end_seconds):
            return
