"""The devices of a machine, found without PyTorch if there is no GPU, and errors after which a GPU is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import video_features
from video_features import SettingsError
from video_features.runtimes import devices
from video_features.runtimes.devices import (
    Device,
    available_devices,
    choose_device,
    default_batch_size,
    in_words,
    is_device_failure,
    may_have_gpu,
)


@pytest.fixture
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", *devices.AMD_VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["cpu", "mps", "cuda:0", "cuda:11"])
def test_a_device_is_written_as_in_pytorch(name: str) -> None:
    device = Device(name.partition(":")[0], int(name.partition(":")[2]) if ":" in name else None)
    theirs = torch.device(name)
    assert (str(device), device.type, device.index) == (str(theirs), theirs.type, theirs.index)


@pytest.mark.usefixtures("nothing_hidden")
@pytest.mark.parametrize(
    ("platform", "file", "expected"),
    [
        ("linux", "dev/null", False),
        ("linux", "dev/nvidiactl", False),  # the driver of NVIDIA, without a GPU
        ("linux", "proc/driver/nvidia/version", True),  # device files may appear only when a program uses the GPU
        ("linux", "sys/module/nvidia/version", True),
        ("linux", "dev/nvidia0", True),
        ("linux", "dev/nvidia12", True),
        ("linux", "dev/nvhost-gpu", True),
        ("linux", "dev/kfd", True),
        ("linux", "dev/dxg", True),
        ("win32", "System32/kernel32.dll", False),
        ("win32", "System32/nvcuda.dll", True),
        ("win32", "System32/amdhip64_6.dll", True),
        ("darwin", "dev/null", True),  # PyTorch is asked
        ("freebsd14", "dev/null", True),
    ],
)
def test_a_gpu_is_told_by_the_files_of_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, file: str, expected: bool
) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    monkeypatch.setattr(sys, "platform", platform)
    assert may_have_gpu(tmp_path) is expected


@pytest.mark.usefixtures("nothing_hidden")
@pytest.mark.parametrize(
    ("vendor", "kind", "expected"),
    [("0x10de", "0x030200", True), ("0x10de", "0x0c0330", False), ("0x8086", "0x030000", False)],
)
def test_a_card_whose_driver_is_not_loaded_yet(
    vendor: str, kind: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    card = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text(f"{vendor}\n")
    (card / "class").write_text(f"{kind}\n")
    assert may_have_gpu(tmp_path) is expected


@pytest.mark.usefixtures("nothing_hidden")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": ""}, False),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, False),
        ({"CUDA_VISIBLE_DEVICES": "0"}, True),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1234"}, True),
        ({"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "0"}, True),
        ({"CUDA_VISIBLE_DEVICES": "-1", "ROCR_VISIBLE_DEVICES": "0"}, True),
    ],
)
def test_gpus_may_be_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool
) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    monkeypatch.setattr(sys, "platform", "linux")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert may_have_gpu(tmp_path) is expected


WITHOUT_TORCH = """
import sys
from video_features.runtimes.devices import available_devices, choose_device
assert str(choose_device("cpu")) == "cpu", "a GPU or not"
assert "torch" not in sys.modules
print(*available_devices(), choose_device(None))
assert "torch" not in sys.modules
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform not in ("linux", "win32"), reason="PyTorch is asked")
def test_without_a_gpu_pytorch_is_not_imported() -> None:
    path = str(Path(video_features.__file__).parents[1])
    environment = {name: value for name, value in os.environ.items() if name not in devices.AMD_VARIABLES}
    environment |= {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"}
    found = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], env=environment, capture_output=True, text=True)
    assert found.stdout.strip() == "cpu cpu", found.stderr


@pytest.mark.parametrize(
    ("gpus", "has_mps", "names"),
    [(0, False, ["cpu"]), (2, False, ["cuda:0", "cuda:1", "cpu"]), (0, True, ["mps", "cpu"])],
)
def test_pytorch_is_asked_where_there_may_be_a_gpu(
    monkeypatch: pytest.MonkeyPatch, gpus: int, has_mps: bool, names: list[str]
) -> None:
    monkeypatch.setattr(devices, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    assert [str(device) for device in available_devices()] == names
    assert str(choose_device(None)) == names[0]
    assert [str(choose_device(name)) for name in names] == names
    if gpus:
        assert choose_device("cuda") == choose_device("gpu") == Device("cuda", 0)
    with pytest.raises(SettingsError) as error:
        choose_device("cuda:7")
    expected = f"device 'cuda:7' is not available on this machine; available: {', '.join(names)}"
    assert str(error.value) == expected


def test_this_machine_has_the_devices_that_pytorch_finds() -> None:
    theirs = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    theirs += ["mps"] if torch.backends.mps.is_available() else []
    assert [str(device) for device in available_devices()] == [*theirs, "cpu"]


@pytest.mark.parametrize(
    ("window", "device", "expected"),
    [(1, Device("cpu"), 1), (1, Device("cuda", 0), 16), (16, Device("cuda", 0), 4), (100, Device("mps"), 1)],
)
def test_the_default_batch_holds_about_64_frames_on_a_gpu(window: int, device: Device, expected: int) -> None:
    assert default_batch_size(window, device) == expected


def test_a_device_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: ["NVIDIA A100", "NVIDIA H200"][index])
    assert in_words(Device("cuda", 1)) == "NVIDIA H200 (cuda:1)"
    for number, words in ((1, "CPU (1 core)"), (8, "CPU (8 cores)")):
        monkeypatch.setattr(devices, "cores", lambda number=number: number)
        assert in_words(Device("cpu")) == words


def wrapped(cause: Exception) -> Exception:
    error = ValueError("the network failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), True),
        (
            RuntimeError("The following operation failed in the TorchScript interpreter.\nRuntimeError: CUDA error"),
            True,
        ),
        (wrapped(RuntimeError("CUDA error: device-side assert triggered")), True),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (ValueError("CUDA error"), False),
        (wrapped(ValueError("other")), False),
    ],
)
def test_a_device_failure_is_told_by_the_kind_of_the_error(error: Exception, expected: bool) -> None:
    assert is_device_failure(error) is expected


@pytest.mark.skipif(not hasattr(torch, "AcceleratorError"), reason="PyTorch before 2.8")
def test_so_is_pytorchs_own_error() -> None:
    assert is_device_failure(torch.AcceleratorError("CUDA error: unspecified launch failure"))


def test_an_error_is_told_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it could not be imported
    assert is_device_failure(RuntimeError("CUDA error: out of order"))
    assert not is_device_failure(ValueError("other"))
