"""Builds networks without weights, to compare the names and shapes of their tensors with those of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# Operations in place with which layers initialise their weights. They take most of the time, even without numbers.
INITIALISING = {"normal_", "uniform_", "trunc_normal_", "erfinv_", "clamp_", "fill_", "zero_", "add_", "mul_", "div_"}


class _Uninitialised(TorchFunctionMode):
    """Leaves out the operations that initialise weights."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if args and getattr(function, "__name__", "") in INITIALISING:
            return args[0]
        return function(*args, **(kwargs or {}))


@contextmanager
def without_weights() -> Iterator[None]:
    """Within the block, networks are built on the meta device, which has shapes but no numbers."""
    with torch.device("meta"), _Uninitialised():
        yield
