"""Lists and chooses the devices of this machine, and gives the default batch size for a device."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingsError, counted
from ..signals import signals_blocked
from .threads import cores

LARGEST_DEFAULT_BATCH = 16  # rows
# Device files of GPUs that PyTorch supports: NVIDIA's, those of its Jetson boards, AMD's, and any GPU in Windows' WSL.
LINUX_FILES = ("nvidia[0-9]*", "nvhost*", "nvgpu*", "kfd", "dxg")
NVIDIA, DISPLAY = "0x10de", "0x03"  # of a card on the PCI bus: its vendor, and its class
WINDOWS_DRIVERS = ("nvcuda.dll", "amdhip64*.dll")
AMD_VARIABLES = {"HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"}


@dataclass(frozen=True)
class Device:
    """A device that networks run on. `str()` gives PyTorch's name: `cpu`, `cuda:0`, `mps`.

    type: `cpu`, `cuda` or `mps`
    index: which one of several GPUs; None for `cpu` and `mps`
    """

    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"


CPU = Device("cpu")


def choose_device(requested: str | None) -> Device:
    """Return the requested device, by default the first available. Raises SettingsError if not available."""
    if requested == "cpu":  # always there
        return CPU
    available = {str(device): device for device in available_devices()}
    if requested is None:
        return next(iter(available.values()))
    name = {"cuda": "cuda:0", "gpu": "cuda:0"}.get(requested, requested)
    if name not in available:
        raise SettingsError(f"device {requested!r} is not available on this machine; available: {', '.join(available)}")
    return available[name]


def in_words(device: Device) -> str:
    """Return a device as people call it: `CPU (8 cores)`, `NVIDIA H200 (cuda:0)`.

    Starts to use a GPU, which takes a second, unless this process uses it already.
    """
    if device.type == "cpu":
        return f"CPU ({counted(cores(), 'core')})"
    if device.type == "mps":
        return "Apple GPU (mps)"
    import torch

    with suppress(RuntimeError, AssertionError):  # the GPU cannot be used, which whoever uses it will say
        return f"{torch.cuda.get_device_name(device.index)} ({device})"
    return str(device)


def available_devices() -> list[Device]:
    """Return the devices of this machine, the default first: `cuda:0`, …, `mps`, `cpu`.

    PyTorch is asked, but not imported if the machine clearly has no GPU: that takes more than a second.
    """
    if not may_have_gpu():
        return [CPU]
    with signals_blocked():  # an interrupt while PyTorch is being imported aborts the process
        import torch
    found = [Device("cuda", index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append(Device("mps"))
    return [*found, CPU]


def may_have_gpu(root: Path | None = None) -> bool:
    """Return False if this machine clearly has no GPU that PyTorch supports, or if its GPUs are hidden.

    root: the root of the file system; another one in tests
    """
    if sys.platform not in ("linux", "win32"):
        return True  # macOS: PyTorch knows about Apple's and AMD's GPUs
    # PyTorch for AMD reads CUDA_VISIBLE_DEVICES only if the variables of AMD are not set.
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") and not AMD_VARIABLES & os.environ.keys():
        return False
    if sys.platform == "linux":
        if _has_nvidia(root or Path("/")):
            return True
        folder, names = (root or Path("/")) / "dev", LINUX_FILES
    else:
        folder, names = (root or Path(os.environ.get("SYSTEMROOT", "C:/Windows"))) / "System32", WINDOWS_DRIVERS
    return any(True for name in names for _ in folder.glob(name))


def _has_nvidia(root: Path) -> bool:
    """Whether Linux has a driver or a card of NVIDIA. Device files may appear only when the first program uses it."""
    if (root / "proc/driver/nvidia").exists() or (root / "sys/module/nvidia").exists():
        return True
    for device in (root / "sys/bus/pci/devices").glob("*"):
        with suppress(OSError):
            vendor, kind = ((device / name).read_text(encoding="ascii") for name in ("vendor", "class"))
            if vendor.startswith(NVIDIA) and kind.startswith(DISPLAY):
                return True
    return False


def has_openvino() -> bool:
    """Return True if the `openvino` extra is installed."""
    return importlib.util.find_spec("openvino") is not None


def is_device_failure(error: BaseException | None) -> bool:
    """Whether an error, or an error that it was raised from, says that a GPU failed.

    A process cannot use a GPU again after such an error.
    """
    if error is None:
        return False
    # PyTorch has its own type since 2.8. If it is not imported, no error is its own.
    own: type[Exception] | None = getattr(sys.modules.get("torch"), "AcceleratorError", None)
    if own is not None and isinstance(error, own):
        return True
    if isinstance(error, RuntimeError) and "CUDA error" in str(error):  # of an older PyTorch, or of TorchScript
        return True
    return is_device_failure(error.__cause__ or error.__context__)


def default_batch_size(window_size: int, device: Device) -> int:
    """Return the default number of rows in a pass.

    1 on a CPU, where larger batches save no time. On a GPU 64 // window_size, at least 1 and at most 16.
    """
    return 1 if device.type == "cpu" else max(1, min(LARGEST_DEFAULT_BATCH, 64 // window_size))
