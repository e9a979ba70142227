"""Stand-in weights. Each tensor is computed from its published name and shape, so anybody can rebuild the weights.

The reference outputs in `tests/golden` were computed with these weights. The rule and the check values of the rule
are the oracle's.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

GOLDEN = Path(__file__).parent / "golden"


def tensor(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.array(0, dtype=np.int64)
    if last == "running_var":
        value = rng.uniform(0.5, 1.5, shape)
    elif last == "running_mean":
        value = 0.1 * rng.standard_normal(shape)
    elif not shape:
        value = np.array(1.0)
    elif len(shape) == 1:
        value = rng.uniform(0.5, 1.5, shape) if last.endswith("weight") else 0.05 * rng.standard_normal(shape)
    else:
        value = np.sqrt(2 / np.prod(shape[1:])) * rng.standard_normal(shape)
    value = value.astype(np.float32)
    return value * np.float32(0.03) if "flow_head.conv2" in name else value


def state_dict(family: str, checkpoint: str) -> dict[str, torch.Tensor]:
    """Return a complete checkpoint under the published names."""
    shapes = json.loads((GOLDEN / f"{family}_keys.json").read_text())[checkpoint]
    return {name: torch.from_numpy(np.asarray(tensor(name, tuple(shape)))) for name, shape in shapes.items()}


def network_input(name: str, shape: tuple[int, ...], low: float, high: float) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(zlib.crc32(b"input:" + name.encode()))
    return rng.uniform(low, high, shape).astype(np.float32)
