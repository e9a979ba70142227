"""The plain script that benchmarks/command.py compares with: load, decode, transform, run eager PyTorch and save .npy.

    python benchmarks/plain_script.py JOB

JOB is a `Job` as JSON. The script imports only what a script for this one feature needs. It does not import this
package where a library has the network. The networks of i3d, pwc and vggish are no library's: their classes come from
this package, in place of the file that a user would copy from the authors.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_loops import LOOPS


@dataclass(frozen=True)
class Job:
    """What the script does.

    weights: a checkpoint as the network's authors publish it: a state dict that PyTorch saved
    videos: the files, of which each gives OUTPUT/STEM.npy
    end_seconds: where to stop in each file; None: at its end
    """

    feature: str
    weights: str
    videos: list[str]
    output: str
    end_seconds: float | None = None
    model_name: str = ""
    batch_size: int = 1
    extraction_fps: float | None = None
    stack_size: int = 0
    step_size: int = 0


State = dict[str, torch.Tensor]


def resnet(job: Job, state: State) -> Any:
    from torchvision.models import get_model

    network = get_model(job.model_name, weights=None)
    network.load_state_dict(state)
    network.fc = torch.nn.Identity()
    return network


def timm(job: Job, state: State) -> Any:
    import timm

    network = timm.create_model(job.model_name)
    network.load_state_dict(state)
    network.reset_classifier(0)
    return network


def clip(job: Job, state: State) -> Any:
    """OpenAI's networks, for which open_clip loads the file itself."""
    import open_clip

    name = job.model_name.replace("/", "-") + "-quickgelu"
    return open_clip.create_model(name, pretrained=job.weights).eval().encode_image


def r21d(job: Job, state: State) -> Any:
    from torchvision.models.video import r2plus1d_18

    network = r2plus1d_18()
    network.load_state_dict(state)
    network.fc = torch.nn.Identity()
    return network


def s3d(job: Job, state: State) -> Any:
    """torchvision's network. The authors' file has the same tensors in the same order under different names."""
    from torchvision.models.video import s3d as create

    network = create()
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))
    network.classifier = torch.nn.Identity()
    return network


def raft(job: Job, state: State) -> Any:
    from torchvision.models.optical_flow import raft_large

    network = raft_large()
    network.load_state_dict(state)
    return network


def i3d(job: Job, state: State) -> Any:
    return _from_this_package("i3d", "InceptionI3d", state, 3)


def pwc(job: Job, state: State) -> Any:
    return _from_this_package("pwc", "PwcNet", state)


def vggish(job: Job, state: State) -> Any:
    return _from_this_package("vggish", "Vggish", state)


def _from_this_package(module: str, name: str, state: State, *arguments: Any) -> Any:
    network = getattr(import_module(f"video_features.networks.{module}"), name)(*arguments)
    network.load_state_dict(state)
    return network


NETWORKS: Iterable[Callable[[Job, State], Any]] = (resnet, timm, clip, r21d, s3d, raft, i3d, pwc, vggish)


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    create = {function.__name__: function for function in NETWORKS}[job.feature]
    state = {} if create is clip else torch.load(job.weights, map_location="cpu", weights_only=True)
    network = create(job, state)
    if isinstance(network, torch.nn.Module):
        network.eval()
    loop = LOOPS[job.feature](network, job)
    for video in map(Path, job.videos):
        np.save(Path(job.output) / f"{video.stem}.npy", loop(video, job.end_seconds))


if __name__ == "__main__":
    main()
