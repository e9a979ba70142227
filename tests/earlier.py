"""Outputs of version 0.1.0 (commit 658f94d), from before the package was split into folders.

`tests/golden/earlier` was generated once with that commit installed. Do not regenerate `tests/golden/earlier`. The
command was:

    python tests/earlier.py tests/golden/earlier

outputs/test_earlier.py checks that later versions skip these outputs instead of extracting the features again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.torch import save_file

import standin

MODIFIED_NS = 1_790_000_000_123_456_789  # modification time of the images
FOLDER = Path(__file__).parent / "golden" / "earlier"


def picture(k: int, side: int = 16) -> npt.NDArray[np.uint8]:
    """uint8 (side, side, 3): red and green rise along the sides, blue identifies picture k."""
    y, x = np.mgrid[:side, :side]
    return np.stack([8 + x, 8 + y, np.full_like(x, 100 + 10 * k)], axis=2).astype(np.uint8)


def frames_folder(folder: Path) -> Path:
    """Write a folder of three images with the recorded sizes and modification times."""
    frames = folder / "frames"
    frames.mkdir(parents=True)
    for k in range(3):
        path = frames / f"{k}.ppm"
        path.write_bytes(b"P6 16 16 255\n" + picture(k).tobytes())
        os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))
    return frames


def weights(folder: Path, family: str, checkpoint: str) -> Path:
    path = folder / f"{checkpoint}.safetensors"
    if not path.exists():
        save_file(standin.state_dict(family, checkpoint), path)
    return path


def calls(folder: Path) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """Yield the arguments of each `extract` call: paths, feature and settings."""
    own = folder / "weights.bin"
    own.write_bytes(b"one")
    yield [frames_folder(folder), folder / "missing.mp4"], "trouble", {"weights": own}
    yield [folder / "frames"], "trouble", {"weights": own, "output_path": "pickled", "on_extraction": "save_pickle"}
    clip = np.stack([picture(k, 32) for k in range(2)])
    resnet = {"model_name": "resnet18", "weights": weights(folder, "resnet", "resnet18"), "show_pred": True}
    yield {"clip": clip}, "resnet", resnet
    moving = np.stack([np.roll(picture(0, 128), 2 * k, axis=1) for k in range(2)])
    raft = {"weights": weights(folder, "raft", "raft"), "preview": True, "flow_dtype": "float16"}
    yield {"moving": moving}, "raft", raft


def main() -> None:
    from tempfile import TemporaryDirectory

    from video_features import extract, registry

    registry._modules()["trouble"] = "families.trouble"
    out = Path(sys.argv[1])
    with TemporaryDirectory() as name:
        for paths, feature, settings in calls(Path(name)):
            root = out / settings.pop("output_path", "saved")
            for outcome in extract(paths, feature, output_path=root, device="cpu", source_fps=25, **settings):
                print(outcome.location, outcome.status, outcome.reason)


if __name__ == "__main__":
    main()
