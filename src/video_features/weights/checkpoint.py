"""What is in a checkpoint's file: read safely, and loaded strictly."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError, in_one_line

if TYPE_CHECKING:
    import torch

StateDict = dict[str, "torch.Tensor"]


def read(path: Path) -> StateDict:
    """The tensors of a checkpoint by name: `.safetensors`, or PyTorch's format with tensors, or with nothing but named
    NumPy arrays, in it, and nothing that would run.

    One wrapping level, `state_dict` or `model`, is taken off. Raises WeightsError, naming the file.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        import torch

        loaded = _unpickled(path)
    except (pickle.UnpicklingError, KeyError) as error:  # PyTorch's own words advise to run what the file holds
        raise WeightsError(
            f"{path}: not a checkpoint that can be read safely (it is another kind of file, or holds more than tensors)"
        ) from error
    except Exception as error:  # of many kinds; safetensors' own has no public base
        raise WeightsError(f"{path}: not a checkpoint that can be read safely ({in_one_line(error)})") from error
    for wrapping in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapping), Mapping):
            loaded = loaded[wrapping]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise WeightsError(f"{path}: expected a checkpoint of named tensors, found {type(loaded).__name__}")
    return dict(loaded)


def _unpickled(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        try:
            arrays = _read_arrays(path)
        except Exception:
            raise error from None
        return {name: torch.from_numpy(array.values) for name, array in arrays.items()}


def _read_arrays(path: Path) -> dict[str, _Array]:
    """What `torch.save` wrote of named NumPy arrays."""
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                (record,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
                found = _ArrayUnpickler(io.BytesIO(archive.read(record))).load()
        else:  # before PyTorch 1.6: a magic number, the format's version, the machine, and then what was saved
            file.seek(0)
            *_, found = (_ArrayUnpickler(file).load() for _ in range(4))
    if not isinstance(found, dict) or not all(isinstance(value, _Array) for value in found.values()):
        raise pickle.UnpicklingError("more than named arrays")
    return found


class _Dtype:
    """Stands for `numpy.dtype` in a pickle."""

    def __init__(self, name: str, *_: Any) -> None:
        if name not in ("f2", "f4", "f8"):
            raise pickle.UnpicklingError(f"arrays of {name} are no weights")
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Array:
    """Stands for `numpy.ndarray` in a pickle: NumPy's own trusts what a file says of its memory."""

    values: npt.NDArray[np.floating[Any]]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("an array of no dtype")
        flat = np.frombuffer(data, dtype.order + dtype.name).astype(dtype.name)
        self.values = flat.reshape(shape, order="F" if is_fortran else "C")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads Python's own plain objects and NumPy's arrays of floats; whatever else a file names is refused, not run."""

    def find_class(self, module: str, name: str) -> Any:
        stand_ins: dict[str, Any] = {  # made anew, because a file may change them
            "_reconstruct": lambda *_: _Array(),
            "ndarray": _Array,
            "dtype": _Dtype,
            "encode": lambda text, _: text.encode("latin1"),
        }
        if (module, name) not in WRITTEN_BY_NUMPY:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a checkpoint")
        return stand_ins[name]


# What pickles of NumPy arrays name, in any version; and `_codecs` those of bytes in the format that PyTorch writes.
WRITTEN_BY_NUMPY = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


def load_strictly(
    network: torch.nn.Module,
    state: StateDict,
    path: Path,
    *,
    published_name: Callable[[str], str] = str,
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Load every tensor into `network`; WeightsError names the file and the first keys or shapes that differ.

    published_name: the network's name of a tensor → its name in `state`, where these differ
    aliases: names that must be in `state` too, each of a tensor that is there, and is read, under another one
    """
    names = {name: published_name(name) for name in network.state_dict()}
    expected = {names[name]: tensor.shape for name, tensor in network.state_dict().items()}
    expected |= {alias: expected[name] for alias, name in aliases.items()}
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    reshaped = [
        f"{name} {tuple(state[name].shape)} where {tuple(shape)} is needed"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    found = [
        f"{what}: {', '.join(wrong[:3])}{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}"
        for what, wrong in (("missing", missing), ("not of this network", unexpected), ("wrong shape", reshaped))
        if wrong
    ]
    if found:
        raise WeightsError(f"{path}: not the weights of this network; {'; '.join(found)}")
    network.load_state_dict({name: state[published] for name, published in names.items()})
