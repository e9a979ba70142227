"""Reads checkpoints without executing code, and loads them strictly into networks."""

from __future__ import annotations

import io
import pickle
import shlex
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError, in_one_line
from .appearance import looks_like

if TYPE_CHECKING:
    import torch

StateDict = dict[str, "torch.Tensor"]
Aliases = Mapping[str, str]
NO_ALIASES: Aliases = MappingProxyType({})
MOST_NAMED = 3  # networks in an error


def read(path: Path) -> StateDict:
    """Read a checkpoint and return {name: tensor}, without executing any code in the file.

    The file is `.safetensors` or in PyTorch's format, with tensors, or with named NumPy arrays only. A `state_dict` or
    `model` entry that wraps the tensors is unwrapped.
    Raises WeightsError, which names the file: for another kind of file, for more than tensors in it, and for tensors
    with NaN or infinity.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: Any = load_file(str(path))
        else:
            loaded = _unpickled(path)
    except Exception as error:  # unpickling may raise errors of any type
        raise unreadable(path, error) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise WeightsError(f"{path}: expected a checkpoint of named tensors, found {type(loaded).__name__}")
    check_finite(loaded, path)
    return dict(loaded)


def unreadable(path: Path, error: Exception) -> WeightsError:
    """Return the error for a file that a loader refused. It says what the file looks like, if that is known.

    error: the loader's error, which is quoted if nothing is known of the file. Errors of unpickling are never quoted:
        they come from inside the unpickler, or recommend the unsafe loader.
    """
    from safetensors import SafetensorError

    is_quoted = isinstance(error, (RuntimeError, OSError, SafetensorError))
    quoted = in_one_line(error) if is_quoted else "a different kind of file, or more than tensors in it"
    return WeightsError(f"{path}: not a checkpoint that can be read safely ({looks_like(path) or quoted})")


def check_finite(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise WeightsError, which names the first tensor, if a tensor of a checkpoint holds NaN or infinity."""
    bad = [name for name, tensor in state.items() if not _is_finite(tensor)]
    if bad:
        raise WeightsError(
            f"{path}: NaN or infinity in {len(bad)} of {len(state)} tensors, first in {bad[0]}; the training diverged, "
            "or the file is damaged: use an earlier checkpoint"
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    import torch

    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
        return True
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    elif tensor.itemsize == 1:  # PyTorch computes nothing in float8
        tensor = tensor.float()
    # One pass without a copy, about 20 times as fast as `torch.isfinite`: NaN makes both extremes NaN.
    return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor))


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
    """Read a dict of NumPy arrays that `torch.save` wrote."""
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                (record,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
                found = _ArrayUnpickler(io.BytesIO(archive.read(record))).load()
        else:  # before PyTorch 1.6: pickles of a magic number, the format version, system info and the saved object
            file.seek(0)
            *_, found = (_ArrayUnpickler(file).load() for _ in range(4))
    if not isinstance(found, dict) or not all(isinstance(value, _Array) for value in found.values()):
        raise pickle.UnpicklingError("expected only named arrays")
    return found


class _Dtype:
    """Replaces `numpy.dtype` in a pickle."""

    def __init__(self, name: str, *_: Any) -> None:
        if name not in ("f2", "f4", "f8"):
            raise pickle.UnpicklingError(f"expected float arrays, found {name}")
        self.name, self.order = name, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Array:
    """Replaces `numpy.ndarray` in a pickle, because NumPy trusts the memory layout that the file states."""

    values: npt.NDArray[np.floating[Any]]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("found an array without a dtype")
        flat = np.frombuffer(data, dtype.order + dtype.name).astype(dtype.name)
        self.values = flat.reshape(shape, order="F" if is_fortran else "C")


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles plain Python objects and float arrays of NumPy; refuses any other class or function in the file."""

    def find_class(self, module: str, name: str) -> Any:
        replacements: dict[str, Any] = {  # rebuilt on each call, because a pickle may modify them
            "_reconstruct": lambda *_: _Array(),
            "ndarray": _Array,
            "dtype": _Dtype,
            "encode": lambda text, _: text.encode("latin1"),
        }
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a checkpoint")
        return replacements[name]


# The globals in pickles of NumPy arrays, for all versions of NumPy. `_codecs.encode` creates bytes in the pickle
# protocol that PyTorch uses.
ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


@dataclass(frozen=True)
class Others:
    """Networks of the same family, one of which a checkpoint may belong to instead.

    setting: the setting that selects a network
    networks: {value of the setting: builds its network}
    """

    setting: str
    networks: Mapping[str, Callable[[], torch.nn.Module]]

    def hint(self, state: StateDict, published_name: Callable[[str], str] = str, aliases: Aliases = NO_ALIASES) -> str:
        """Return in words which networks a checkpoint fits, or "". The networks are built without memory for weights.

        published_name, aliases: see `load_strictly`
        """
        from .skeletons import without_weights

        fitting = []
        for value, build in self.networks.items():
            with suppress(Exception), without_weights():  # only a hint; some networks cannot be built in this way
                if not _differences(build(), state, published_name, aliases):
                    fitting.append(value)
        if not fitting:
            return ""
        names = f"{' or '.join(fitting[:MOST_NAMED])}{' …' if len(fitting) > MOST_NAMED else ''}"
        option = f"--{self.setting.replace('_', '-')} {shlex.quote(fitting[0])}"
        return f", but of {names}: give {self.setting}={fitting[0]} ({option})"


def load_strictly(
    network: torch.nn.Module,
    state: StateDict,
    path: Path,
    *,
    published_name: Callable[[str], str] = str,
    aliases: Aliases = NO_ALIASES,
    others: Others | None = None,
) -> None:
    """Load `state` into `network`; every key and shape must match.

    published_name: maps a tensor's name in `network` to its name in `state`, if the names differ
    aliases: {alias: name} of tensors that `state` contains twice; the aliases must exist but are not loaded
    others: other networks of the family, for the error
    Raises WeightsError with the file, the first keys or shapes that differ, and which of the `others` it fits.
    """
    if problems := _differences(network, state, published_name, aliases):
        hint = "" if others is None else others.hint(state, published_name, aliases)
        raise WeightsError(f"{path}: not the weights of this network{hint}; {'; '.join(problems)}")
    network.load_state_dict({name: state[published_name(name)] for name in network.state_dict()})


def _differences(
    network: torch.nn.Module, state: StateDict, published_name: Callable[[str], str], aliases: Aliases
) -> list[str]:
    """Return in words which keys and shapes of a checkpoint differ from those of a network."""
    expected = {published_name(name): tensor.shape for name, tensor in network.state_dict().items()}
    expected |= {alias: expected[name] for alias, name in aliases.items() if name in expected}
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    mismatched = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name in state and state[name].shape != shape
    ]
    return [
        f"{kind}: {', '.join(tensors[:3])}{f' and {len(tensors) - 3} more' if len(tensors) > 3 else ''}"
        for kind, tensors in (("missing", missing), ("unexpected", unexpected), ("wrong shape", mismatched))
        if tensors
    ]
