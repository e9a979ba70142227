"""Lists and chooses the devices of this machine, and gives the default batch size for a device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import SettingsError

LARGEST_DEFAULT_BATCH = 16  # rows


@dataclass(frozen=True)
class Device:
    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


ACCELERATOR_ERROR: type[Exception] | None = getattr(torch, "AcceleratorError", None)  # since PyTorch 2.8


def available_devices() -> list[str]:
    """Return the names of the devices of this machine, the default first: `cuda:0`, …, `mps`, `cpu`."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def choose_device(requested: str | None) -> Device:
    """Return the requested device, by default the first available. Raises SettingsError if not available."""
    available = available_devices()
    if requested is None:
        name = available[0]
        return Device(name.partition(":")[0], int(name.partition(":")[2]) if ":" in name else None)
    name = {"cuda": "cuda:0", "gpu": "cuda:0"}.get(requested, requested)
    if name not in available:
        raise SettingsError(f"device {requested!r} is not available on this machine; available: {', '.join(available)}")
    return Device(name.partition(":")[0], int(name.partition(":")[2]) if ":" in name else None)


def is_device_failure(error: BaseException | None) -> bool:
    """Whether an error, or an error that it was raised from, says that a GPU failed.

    A process cannot use a GPU again after such an error.
    """
    if error is None:
        return False
    if ACCELERATOR_ERROR is not None and isinstance(error, ACCELERATOR_ERROR):
        return True
    if isinstance(error, RuntimeError) and "CUDA error" in str(error):  # of an older PyTorch, or of TorchScript
        return True
    return is_device_failure(error.__cause__ or error.__context__)


def default_batch_size(window_size: int, device: Device) -> int:
    """Return the default number of rows in a pass.

    1 on a CPU, where larger batches save no time. On a GPU 64 // window_size, at least 1 and at most 16.
    """
    return 1 if device.type == "cpu" else max(1, min(LARGEST_DEFAULT_BATCH, 64 // window_size))
