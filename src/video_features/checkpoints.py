"""What is in a checkpoint's file: read safely, and loaded strictly."""

from __future__ import annotations

import codecs
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .errors import WeightsError, in_one_line

if TYPE_CHECKING:
    import torch

StateDict = dict[str, "torch.Tensor"]


def read(path: Path) -> StateDict:
    """The tensors of a checkpoint by name: `.safetensors`, or PyTorch's format with tensors or NumPy's arrays in it,
    and nothing that would run.

    One wrapping level, `state_dict` or `model`, is taken off. Raises WeightsError, naming the file.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
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
    import torch

    if isinstance(loaded, Mapping):
        loaded = {name: torch.from_numpy(value) if _is_array(value) else value for name, value in loaded.items()}
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise WeightsError(f"{path}: expected a checkpoint of named tensors, found {type(loaded).__name__}")
    return dict(loaded)


def _unpickled(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        try:
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_PickleOfArrays)
        except pickle.UnpicklingError:
            raise error from None


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


class _UnpicklerOfArrays(pickle.Unpickler):
    """Reads Python's own plain objects and NumPy's arrays; whatever else a file names is refused, not run."""

    def find_class(self, module: str, name: str) -> Any:
        if (found := ARRAYS.get((module.replace("numpy._core", "numpy.core"), name))) is None:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a checkpoint")
        return found


# By the names under which NumPy of any version, and Python for bytes in old pickles, writes them.
ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
}


class _PickleOfArrays:
    """What `torch.load` uses of a module such as `pickle`."""

    Unpickler = _UnpicklerOfArrays

    @staticmethod
    def load(file: IO[bytes], **how: Any) -> Any:
        return _UnpicklerOfArrays(file, **how).load()


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
