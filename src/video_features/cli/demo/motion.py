"""Reads motion vectors: where the encoder of a video found each block of a picture again in a neighbouring picture.

They are no optical flow: an encoder chooses what is cheap to store, not what moved. But they cost nothing to compute,
and they show the same large movements.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

CELL = 8  # pixels: the smallest block with a vector of its own is 8×8
LARGEST_BLOCK = 16
LONGEST = 0.99  # vectors longer than this share of all vectors are cut off: they are mostly errors

Flow = npt.NDArray[np.float32]


def motion_in(path: Path, spans: Sequence[tuple[float, float]]) -> list[Flow]:
    """Return the mean motion in each span of time (start and end in seconds) of an H.264 video.

    Returns a field for each span, float32 (2, H / 8, W / 8): the motion of each cell of 8×8 pixels in x (to the right)
    and y (down). Its unit is pixels since the picture that a block was predicted from, which may be a few frames away:
    compare vectors of one field, not of several.
    """
    import av
    from av.codec.context import Flags2

    sums: list[list[Flow]] = [[] for _ in spans]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.flags2 |= Flags2.export_mvs
        start = (container.start_time or 0) / av.time_base
        for frame in container.decode(stream):
            seconds = (frame.time or 0.0) - start
            inside = [k for k, (first, last) in enumerate(spans) if first <= seconds <= last]
            if inside:
                found = frame.side_data.get("MOTION_VECTORS")
                field = _field(None if found is None else found.to_ndarray(), frame.height, frame.width)
                for k in inside:
                    sums[k].append(field)
    return [_without_errors(np.mean(fields, axis=0)) if fields else np.zeros((2, 1, 1), np.float32) for fields in sums]


def _field(vectors: npt.NDArray[np.void] | None, height: int, width: int) -> Flow:
    """The mean vector of each cell, (2, H / 8, W / 8); 0 where a block was stored without a vector."""
    rows, columns = -(-height // CELL), -(-width // CELL)
    total, count = np.zeros((2, rows, columns), np.float32), np.zeros((rows, columns), np.float32)
    if vectors is None:  # a picture that was stored on its own
        return total
    # A vector leads from a block to its place in another picture. From an earlier picture, the block moved backwards
    # along the vector; to a later one, it will move forwards.
    sign = np.where(vectors["source"] < 0, -1, 1) / vectors["motion_scale"]
    for right, down in product(range(0, LARGEST_BLOCK, CELL), repeat=2):
        row = (vectors["dst_y"] - vectors["h"] // 2 + down) // CELL
        column = (vectors["dst_x"] - vectors["w"] // 2 + right) // CELL
        in_block = (right < vectors["w"]) & (down < vectors["h"])
        kept = in_block & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        cells = row[kept], column[kept]
        np.add.at(total[0], cells, (sign * vectors["motion_x"])[kept])
        np.add.at(total[1], cells, (sign * vectors["motion_y"])[kept])
        np.add.at(count, cells, 1)
    return (total / np.maximum(count, 1)).astype(np.float32)


def _without_errors(field: Flow) -> Flow:
    lengths = np.hypot(*field)
    longest = np.quantile(lengths, LONGEST)
    kept: Flow = field * np.minimum(1, longest / np.maximum(lengths, 1e-6)).astype(np.float32)
    return kept
