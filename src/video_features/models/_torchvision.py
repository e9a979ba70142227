"""Reads what torchvision's entries of weights have in common."""

from __future__ import annotations

from typing import Any


def size_bytes(weights: Any) -> int | None:
    """Return the size of a checkpoint, to a few hundred bytes; None if torchvision does not state it.

    weights: an entry of one of torchvision's enums, whose size is in units of 1024² bytes
    """
    size = weights.meta.get("_file_size")
    return None if size is None else round(size * 1024**2)
