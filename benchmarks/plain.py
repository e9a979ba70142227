"""The plain loops that benchmarks/speed.py compares with: benchmarks/plain_loops.py with the networks of an extractor.

Networks and weights are built from the extractor's streams, so the rows must agree with the extractor's.
"""

from __future__ import annotations

from typing import Any

from plain_loops import LOOPS, Encoder, Loop, i3d_flow_loop

from video_features import Extractor
from video_features.extraction import Stream


def plain_loop(extractor: Extractor) -> Loop:
    """Return the plain loop for an extractor with one stream, with the same settings and its networks in memory."""
    (stream,), settings = extractor.streams, extractor.settings
    if extractor.feature == "raft":
        return LOOPS["raft"](eager_network(stream).parts, settings)
    if extractor.feature == "pwc":
        return LOOPS["pwc"](eager_network(stream), settings)
    if stream.over is not None:
        return i3d_flow_loop(features_of(stream), settings, eager_network(stream.over).parts)
    return LOOPS[extractor.feature](features_of(stream), settings)


def eager_network(stream: Stream) -> Any:
    """Build the stream's network again, in eager PyTorch, whatever the runtime of the stream."""
    return stream.build_network(stream.local_weights.path).eval()


def features_of(stream: Stream) -> Encoder:
    """Return the stream's network without its logits."""
    network = eager_network(stream)
    return lambda batch: network(batch)[0]
