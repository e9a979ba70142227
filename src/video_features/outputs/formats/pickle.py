"""Writes arrays as `.pkl` files, Python pickles as in the reference tool."""

from __future__ import annotations

import pickle
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ._base import Format

# All that the pickle of an array refers to. NumPy 2 renamed numpy.core.
ALLOWED = {
    *(("numpy", name) for name in ("ndarray", "dtype")),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of arrays only: any other pickle may run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"expected a pickled array, found {module}.{name}, which may run code")
        return super().find_class(module, name)


def load(file: IO[bytes]) -> npt.NDArray[np.generic]:
    array: npt.NDArray[np.generic] = _ArrayUnpickler(file).load()
    if not isinstance(array, (np.ndarray, np.generic, int, float)):
        raise pickle.UnpicklingError(f"expected a pickled array, found {type(array).__name__}")
    return array


FORMAT = Format(".pkl", pickle.dump, load)
