"""The cases of benchmarks/speed.py: a feature, a video, and the target speed relative to a plain loop."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import torch
from memory import looped
from torchvision.models import get_model

from video_features import Extractor, load
from video_features.cli.demo import MODEL, packaged_video
from video_features.registry import family
from video_features.settings.parse import names_of

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import standin

BIKES, BUNNY = "bikes", "bigbuckbunny"  # 640×272, 250 frames; 1280×720, 132 frames and 5.1 sound; both 25 fps
CARPHONE = "carphone_pristine"  # 176×144, 120 frames, 30000/1001 fps
SIDE = 144  # pixels, of the square video


@dataclass(frozen=True)
class Case:
    """A feature and its source: a packaged video, or a video made from it, up to `end_seconds`.

    name: the name for `--only`
    what: the feature and its source, for the table
    settings: settings of the feature, without `weights`
    checkpoints: {part of `weights`, or "": (family, name) of the stand-in checkpoint}
    made: how the source is made from `video`. "": unchanged; "video" or "audio": packets of this kind, repeated `times`
        times; "square": the centre of the pictures, re-encoded
    target: the target ratio to the plain loop on two cores
    plain_warm_up_seconds: how much of the source warms up the plain loop; None: all of it. For slow cases
    limits_once: whether to measure the limits only in the first round. For slow cases
    allowed_difference: largest difference between the values and the plain loop's, relative to the largest value
    """

    name: str
    what: str
    feature: str
    settings: dict[str, Any]
    target: float | None = None
    checkpoints: dict[str, tuple[str, str]] = field(default_factory=dict)
    video: str = BIKES
    made: str = ""
    times: int = 1
    end_seconds: float | None = None
    plain_warm_up_seconds: float | None = None
    limits_once: bool = False
    allowed_difference: float = 1e-3

    def prepare(self, folder: Path) -> None:
        """Write the weights and the video unless they already exist."""
        for key, (of, checkpoint) in self.checkpoints.items():
            if not (path := self._weights(folder, key)).exists():
                torch.save(state_dict(of, checkpoint), path)
        if (source := self.source(folder)).parent == folder and not source.exists():
            if self.made == "square":
                square(packaged_video(self.video), source)
            else:
                looped(packaged_video(self.video), source, self.times, self.made)

    def source(self, folder: Path) -> Path:
        if not self.made:
            return packaged_video(self.video)
        return folder / f"{self.video}_{self.made}_{self.times}.mp4"

    def all_settings(self, folder: Path, runtime: str) -> dict[str, Any]:
        """Settings of the feature with its weights, and with `runtime` if the feature has this setting."""
        weights: Any = {key: str(self._weights(folder, key)) for key in self.checkpoints}
        settings = {**self.settings}
        if weights:
            settings["weights"] = weights.get("", weights)
        if "runtime" in names_of(family(self.feature).Settings):
            settings["runtime"] = runtime
        return settings

    def load(self, folder: Path, runtime: str) -> Extractor:
        return load(self.feature, device="cpu", **self.all_settings(folder, runtime))

    def _weights(self, folder: Path, key: str) -> Path:
        of, checkpoint = self.checkpoints[key]
        return folder / f"{of}_{checkpoint}.pth"


def _timm(name: str, what: str, target: float, *, times: int, **settings: Any) -> Case:
    settings = {"model_name": MODEL, "batch_size": 16, **settings}
    return Case(name, f"timm {MODEL}{what}", "timm", settings, target, made="video", times=times)


def _resnet(name: str, target: float, *, until: float | None = None) -> Case:
    what = name if until is None else f"{name}, {until:g} s"
    settings = {"model_name": name, "batch_size": 16}
    return Case(name, what, "resnet", settings, target, {"": ("resnet", name)}, end_seconds=until)


def _clip(name: str, *, batch_size: int) -> Case:
    settings = {"model_name": "ViT-B/32", "batch_size": batch_size}
    weights = {"": ("clip", "clip_ViT-B_32")}
    return Case(name, f"clip ViT-B/32, 4 s, batch size {batch_size}", "clip", settings, 1.2, weights, end_seconds=4)


CASES = [
    _timm("lite0", ", every frame, 40 s", 3.3, times=4),
    _resnet("resnet18", 1.6),
    _resnet("resnet50", 1.7, until=4),
    _clip("clip", batch_size=1),
    _clip("clip_16", batch_size=16),
    Case("r21d", "r21d", "r21d", {"batch_size": 1}, 1.3, {"": ("r21d", "r2plus1d_18_16_kinetics")}),
    Case("s3d", "s3d", "s3d", {"batch_size": 1}, 3.0, {"": ("s3d", "s3d")}),
    Case(
        name="torchvision_video",
        what="torchvision_video r3d_18",
        feature="torchvision_video",
        settings={"model_name": "r3d_18", "batch_size": 1},
        checkpoints={"": ("torchvision", "r3d_18")},
        end_seconds=5.2,
    ),
    Case("i3d_rgb", "i3d rgb", "i3d", {"streams": "rgb", "batch_size": 1}, 1.9, {"rgb": ("i3d", "i3d_rgb")}),
    Case(
        name="i3d_flow",
        what=f"i3d flow, stack 24, step 8, {SIDE}×{SIDE} (flow at 256×256)",
        feature="i3d",
        settings={"streams": "flow", "stack_size": 24, "step_size": 8, "batch_size": 1},
        target=3.0,
        checkpoints={"flow": ("i3d", "i3d_flow"), "raft": ("raft", "raft")},
        video=CARPHONE,
        made="square",
        plain_warm_up_seconds=0.95,  # 29 frames: slightly more than one stack
        limits_once=True,
    ),
    Case("raft", "raft, 8 frames", "raft", {"batch_size": 1}, 1.15, {"": ("raft", "raft")}, end_seconds=0.32),
    Case(
        name="pwc",
        what="pwc, 12 frames",
        feature="pwc",
        settings={"batch_size": 1},
        checkpoints={"": ("pwc", "pwc")},
        end_seconds=0.48,
        allowed_difference=1e-2,  # rounding decides whether a pixel warped from the edge of the frame counts
    ),
    Case(
        name="vggish",
        what="vggish, 5 minutes",
        feature="vggish",
        settings={"batch_size": 16},
        target=1.4,
        checkpoints={"": ("vggish", "vggish")},
        video=BUNNY,
        made="audio",
        times=57,
    ),
    _timm("lite0_1fps", " at 1 fps, 10 minutes", 2.0, times=60, extraction_fps=1),
]

# Three features of one video: in one run, compared with one run per feature.
THREE = [replace(case, video=BUNNY) for case in CASES if case.name in ("resnet18", "r21d", "s3d")]
THREE_OF = BUNNY


def state_dict(of: str, checkpoint: str) -> dict[str, torch.Tensor]:
    """Return stand-in weights. torchvision's video networks have no stand-ins and get seeded random weights."""
    if of != "torchvision":
        return standin.state_dict(of, checkpoint)
    torch.manual_seed(0)
    return get_model(checkpoint).state_dict()


def square(source: Path, target: Path) -> Path:
    """Re-encode the centre of a video, `SIDE` × `SIDE` pixels, to keep flow as cheap as possible."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = None
        for frame in read.decode(video=0):
            if stream is None:
                stream = written.add_stream("libx264", rate=read.streams.video[0].average_rate)
                stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
                stream.bit_rate = 2_000_000
            left, top = (frame.width - SIDE) // 2, (frame.height - SIDE) // 2
            rgb = frame.to_ndarray(format="rgb24")[top : top + SIDE, left : left + SIDE]
            written.mux(stream.encode(av.VideoFrame.from_ndarray(rgb.copy(), format="rgb24")))
        assert stream is not None
        written.mux(stream.encode())
    return target
