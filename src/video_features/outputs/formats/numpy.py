"""Writes arrays as `.npy` files, NumPy's own format."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ._base import Format


def dump(array: npt.NDArray[Any], file: IO[bytes]) -> None:
    np.save(file, array)


FORMAT = Format(".npy", dump, np.load, is_npy=True)
