"""Errors after which a process cannot use its GPU again."""

from __future__ import annotations

import pytest
import torch

from video_features.runtimes.devices import is_device_failure


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
