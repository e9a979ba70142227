"""The devices of this machine, and how many rows one takes in a pass."""

from __future__ import annotations

import torch

from ..errors import SettingsError

LARGEST_DEFAULT_BATCH = 16  # rows
ACCELERATOR_ERROR: type[Exception] | None = getattr(torch, "AcceleratorError", None)  # from PyTorch 2.8 on


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


def is_device_failure(error: BaseException) -> bool:
    """Whether an error says that the device failed: a process whose GPU was once in error cannot use it again."""
    if ACCELERATOR_ERROR is not None and isinstance(error, ACCELERATOR_ERROR):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith("CUDA error")  # of an older PyTorch


def default_batch_size(window_size: int, device: torch.device) -> int:
    """Rows a pass: 1 on a CPU, where more save nothing; on a GPU what holds 64 frames, 16 at most."""
    return 1 if device.type == "cpu" else max(1, min(LARGEST_DEFAULT_BATCH, 64 // window_size))
