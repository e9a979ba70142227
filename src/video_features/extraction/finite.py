"""Checks that rows and predictions are finite numbers, because NaN or infinity in features spoils what uses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import MediaError
from .streams import Row, Stream

MAX_NAMED_ROWS = 5


class FiniteCheck:
    """Checks the rows of one stream of one video, and fails once it has found several rows that are not finite.

    Rows are checked in the dtype in which they are stored: 70,000 is infinity in float16.

    settings: the settings that change the values, for the hint in the error
    """

    def __init__(self, stream: Stream, settings: Mapping[str, Any]) -> None:
        self._stream = stream
        self._settings = settings
        self._bad: list[tuple[int, float]] = []  # the index of a row, and its start in seconds
        self._is_too_large = True  # every value that was found is finite before it is stored

    def is_finite(self, index: int, row: Row) -> bool:
        """Return whether a row and its predictions are finite. Raises MediaError at the fifth row that is not.

        index: the index of the row
        """
        # Both are NaN if there is any NaN. These are two passes over the row, without a copy.
        extremes = np.array([row.value.min(), row.value.max()]) if row.value.size else np.zeros(2)
        with np.errstate(over="ignore"):
            stored = extremes.astype(self._stream.dtype)
        likeliest = [number for found in row.span.classes for number in (found.logit, found.probability)]
        if np.isfinite(stored).all() and np.isfinite(likeliest).all():
            return True
        self._bad.append((index, float(row.span.seconds)))
        self._is_too_large = self._is_too_large and bool(np.isfinite(extremes).all() and np.isfinite(likeliest).all())
        if len(self._bad) == MAX_NAMED_ROWS:
            raise self._error(" and perhaps more")
        return False

    def finish(self) -> None:
        """Check that all rows were finite. Raises MediaError otherwise."""
        if self._bad:
            raise self._error()

    def _error(self, more: str = "") -> MediaError:
        rows = ", ".join(str(index) for index, _ in self._bad)
        seconds = ", ".join(f"{start:.2f}" for _, start in self._bad)
        return MediaError(
            f"NaN or infinity in the values of {self._stream.key}, row{'s' * (len(self._bad) > 1)} {rows}{more} "
            f"(counted from 0), at {seconds} s; {self._hint()}"
        )

    def _hint(self) -> str:
        dtype = np.dtype(self._stream.dtype)
        if self._is_too_large:
            return f"the values are too large for {dtype}: use flow_dtype=float32 (--flow-dtype float32)"
        precision = self._settings.get("precision", "fp32")
        if precision != "fp32":  # bf16 has the range of fp32: its values are not too large, only rounded
            why = "be too large for" if precision == "fp16" else "come from the rounding of"
            return f"they may {why} precision={precision}: use precision=fp32 (--precision fp32)"
        return f"{self._stream.model} cannot compute this video with these weights: check the weights, or leave it out"
