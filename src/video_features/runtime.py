"""Where a network runs: the devices that there are, and the runtimes, which all do the same with it."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .errors import SettingsError, in_one_line
from .profile import spent
from .settings import PRECISIONS
from .workers import all_threads

log = logging.getLogger(__name__)

DTYPES = dict(zip(PRECISIONS, (torch.float32, torch.bfloat16, torch.float16), strict=True))


@dataclass(frozen=True)
class Placement:
    """Where and how networks are to run. Raises SettingsError where the runtime cannot run there, or is not installed.

    runtime, precision: as the settings of features have them
    tf32: whether a GPU may round what it multiplies to 10 bits
    """

    device: torch.device
    runtime: str = "auto"
    precision: str = "fp32"
    tf32: bool = False

    def __post_init__(self) -> None:
        if self.runtime != "openvino":
            return
        if self.device.type != "cpu":
            raise SettingsError(f"runtime=openvino is for the CPU, and the device is {self.device}: give device=cpu")
        if self.precision != "fp32":
            raise SettingsError(f"runtime=openvino computes in fp32; precision={self.precision} needs runtime=torch")
        if not has_openvino():
            raise SettingsError("runtime=openvino needs an extra: pip install 'video_features[openvino]'")


@dataclass(frozen=True)
class Blueprint:
    """A network that is not built yet.

    model: its name, for messages
    build: gives it, on the CPU; raises WeightsError where its weights do not fit
    key: what tells it from every other: weights, settings, code, versions
    passes_are_long: whether a video has only a few rows of it, each of which takes long
    """

    model: str
    build: Callable[[], nn.Module]
    key: str
    passes_are_long: bool = False


class Runtime(Protocol):
    """A network, ready to run; called from several threads at once.

    name: what it runs in, for records
    pads: whether a batch of another size than the last costs it dear, so that one that is not full is filled up
    most_rows: of which more in one pass save nothing; None where there is no such number
    """

    name: str
    pads: bool
    most_rows: int | None

    def __call__(self, method: str, batch: Any) -> Any:
        """What its `forward`, or another method, makes of a batch: tensors, or such in lists in lists, on any device →
        a tensor (B, …), or several or None, on the runtime's device."""


class Runner:
    """A stream's network in the runtime that its settings ask for. Batches come from any device; results are float32
    and stay on the network's."""

    def __init__(self, network: Blueprint, placement: Placement) -> None:
        self.device = placement.device
        self.runtime = choose_runtime(network, placement)

    def __call__(self, batch: Any, size: int | None = None) -> tuple[Tensor, Tensor | None]:
        """batch (B, …), or a list of such → features (B, …), logits (B, classes) or None

        size: of a full batch
        """
        features, logits = self._run("forward", batch, size)
        return features.float(), None if logits is None else logits.float()

    def encode(self, batch: Any, size: int | None = None) -> Any:
        """batch (B, …) → what the network's `encode` makes of it: a tensor (B, …) or several"""
        return self._run("encode", batch, size)

    def _run(self, method: str, batch: Any, size: int | None) -> Any:
        count = len(next(tensors_of(batch)))
        if size is None or count == size or not self.runtime.pads:
            return self.runtime(method, batch)
        full = over_tensors(batch, lambda one: torch.cat([one, one[-1:].expand(size - count, *one.shape[1:])]))
        return over_tensors(self.runtime(method, full), lambda one: one[:count])


class Torch:
    """PyTorch, one pass at a time, with all threads. See `Runtime`."""

    pads = False
    most_rows: int | None = None
    _turn = threading.Lock()  # of all networks: two at once would be in each other's way

    def __init__(self, network: nn.Module, placement: Placement) -> None:
        self._placement = placement
        self.network = network.eval().to(placement.device)
        if placement.device.type == "cuda":
            channels_last(self.network)
        self.name = f"torch {torch.__version__} {placement.precision} on {placement.device}"

    def __call__(self, method: str, batch: Any) -> Any:
        where = self._placement
        with self._turn, spent("network"), torch.inference_mode(), all_threads(where.device), self._rounding():
            return self._pass(method, over_tensors(batch, self._there))

    def _pass(self, method: str, batch: Any) -> Any:
        return getattr(self.network, method)(batch) if method != "forward" else self.network(batch)

    def _rounding(self) -> torch.autocast:
        where = self._placement
        if where.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = where.tf32
        dtype = DTYPES[where.precision]
        return torch.autocast(where.device.type, dtype, enabled=dtype != torch.float32)

    def _there(self, tensor: Tensor) -> Tensor:
        """On the device; the copy does not wait for what is under way there."""
        if self._placement.device.type != "cuda" or tensor.is_cuda:
            return tensor.to(self._placement.device)
        moved = tensor.pin_memory().to(self._placement.device, non_blocking=True)
        return moved.contiguous(memory_format=FORMATS.get(moved.dim(), torch.contiguous_format))


FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(network: nn.Module) -> nn.Module:
    """Lay out the weights of its convolutions as tensor cores take them; their values stay the same."""
    for parameter in network.parameters():
        if parameter.dim() in FORMATS:
            parameter.data = parameter.data.contiguous(memory_format=FORMATS[parameter.dim()])
    return network


class Compiled(Torch):
    """PyTorch with torch.compile; without it, telling so, where it cannot be. See `Runtime`."""

    pads = True

    def __init__(self, network: nn.Module, placement: Placement, model: str) -> None:
        super().__init__(network, placement)
        self._model = model
        self._compiled: dict[str, Callable[[Any], Any]] = {}
        self.name = f"torch.compile, {self.name}"

    def _pass(self, method: str, batch: Any) -> Any:
        plain = self.network if method == "forward" else getattr(self.network, method)
        if method not in self._compiled:
            self._compiled[method] = torch.compile(plain)
        run = self._compiled[method]
        try:
            return run(batch)
        except Exception as error:  # there is no C++ compiler, or it does not take this network
            if run is plain:
                raise
            result = plain(batch)  # raises where it is not the compilation's fault
            log.warning("%s: torch.compile cannot take it (%s): it runs without", self._model, in_one_line(error))
            self._compiled[method] = plain
            return result


def choose_runtime(network: Blueprint, placement: Placement) -> Runtime:
    """The runtime asked for; `auto` is the fastest that is here. Raises WeightsError where the weights do not fit."""
    on_cpu, runtime = placement.device.type == "cpu", placement.runtime
    if runtime == "auto":
        runtime = "openvino" if on_cpu and placement.precision == "fp32" and has_openvino() else "torch"
    if runtime == "openvino":
        from .openvino_runtime import OpenVino

        return OpenVino(network, lambda: Torch(network.build(), placement))
    if runtime == "compile":
        return Compiled(network.build(), placement, network.model)
    return Torch(network.build(), placement)


def has_openvino() -> bool:
    """Whether the extra is installed."""
    return importlib.util.find_spec("openvino") is not None


def over_tensors(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A function of every tensor of a tensor, or of such in lists in lists; None stays None."""
    if batch is None or isinstance(batch, Tensor):
        return None if batch is None else function(batch)
    return [over_tensors(one, function) for one in batch]


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """The tensors of a tensor, or of such in lists in lists; None is none."""
    if isinstance(batch, Tensor):
        yield batch
    elif batch is not None:
        for one in batch:
            yield from tensors_of(one)


def release_free_memory() -> None:
    """Give memory that is free, but kept by the C library's allocator, back to the system; where it can, as glibc can.

    Buffers of many sizes come and go for as long as a video lasts, and the gaps between them add up.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def default_batch_size(window_size: int, device: torch.device) -> int:
    """Rows a pass: 1 on a CPU, where more save nothing; on a GPU what holds 64 frames, 16 at most."""
    return 1 if device.type == "cpu" else max(1, min(16, 64 // window_size))


def available_devices() -> list[str]:
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def choose_device(asked: str | None) -> torch.device:
    """The device asked for, or the best there is; SettingsError, listing those that are, if it is not there."""
    available = available_devices()
    if asked is None:
        return torch.device(available[0])
    name = {"cuda": "cuda:0", "gpu": "cuda:0"}.get(asked, asked)
    if name not in available:
        raise SettingsError(f"device {asked!r} is not here: there is {', '.join(available)}")
    return torch.device(name)
