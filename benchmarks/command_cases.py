"""The jobs of benchmarks/command.py: a feature of a few videos, as a command and as a plain script."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import speed_cases
import timm
import torch
from plain_script import Job as Script
from speed_cases import BUNNY, Case, standin
from torchvision.models.optical_flow import raft_large

from video_features.cli.demo import MODEL, packaged_video

SCRIPT_BATCH_SIZE = 16  # of frame features, where the command has its default


@dataclass(frozen=True)
class Job:
    """A feature of one video, or of several copies of it.

    name: the name for `--only`
    what: the feature and its source, for the table
    case: the feature, its weights, and the settings that command and script share
    key: the feature's name in the names of the outputs
    rows: number of rows of each video
    end_seconds: where to stop in each video; None: at its end
    script_settings: settings of the script alone, such as defaults of the feature that the command need not name
    target: the target ratio of a warm command to the plain script on two cores
    """

    name: str
    what: str
    case: Case
    key: str
    rows: int
    copies: int = 1
    end_seconds: float | None = None
    script_settings: dict[str, Any] = field(default_factory=dict)
    target: float | None = None

    def prepare(self, folder: Path) -> None:
        """Write the weights, the videos and the list of videos unless they already exist."""
        for of, checkpoint in self.case.checkpoints.values():
            if not (path := folder / f"{of}_{checkpoint}.pth").exists():
                torch.save(state_dict(of, checkpoint), path)
        lines = ["path,end_seconds"]
        for video in self.videos(folder):
            if not video.exists():
                shutil.copyfile(packaged_video(self.case.video), video)
            lines.append(f"{video},{'' if self.end_seconds is None else self.end_seconds}")
        self._list(folder).write_text("\n".join(lines) + "\n", encoding="utf-8")

    def videos(self, folder: Path) -> list[Path]:
        return [folder / f"{self.case.video}{k}.mp4" for k in range(self.copies)]

    def command(self, folder: Path, output: Path) -> list[str]:
        settings = {**self.case.settings, **{f"weights.{key}".rstrip("."): path for key, path in self._weights(folder)}}
        options = [[f"--{name.replace('_', '-')}", str(value)] for name, value in settings.items()]
        where = ["--file-with-video-paths", str(self._list(folder)), "--output-path", str(output), "--device", "cpu"]
        return [sys.executable, "-m", "video_features", "extract", self.case.feature, *where, *chain(*options)]

    def script(self, folder: Path, output: Path) -> list[str]:
        settings = {name: value for name, value in self.case.settings.items() if name != "streams"}
        ((_, weights),) = self._weights(folder)
        videos = [str(video) for video in self.videos(folder)]
        script = Script(
            feature=self.case.feature,
            weights=str(weights),
            videos=videos,
            output=str(output),
            end_seconds=self.end_seconds,
            **{**settings, **self.script_settings},
        )
        return [sys.executable, str(Path(__file__).with_name("plain_script.py")), json.dumps(asdict(script))]

    def outputs(self, output: Path, *, of_script: bool) -> list[Path]:
        """Return the finished files of rows, in the order of the videos."""
        return sorted(output.rglob("*.npy" if of_script else f"[!.]*_{self.key}.npy"))

    def _weights(self, folder: Path) -> list[tuple[str, Path]]:
        return [(key, folder / f"{of}_{name}.pth") for key, (of, name) in self.case.checkpoints.items()]

    def _list(self, folder: Path) -> Path:
        return folder / f"{self.name}.csv"


def state_dict(of: str, checkpoint: str) -> dict[str, torch.Tensor]:
    """Return stand-in weights under the names of the library whose network the script takes."""
    libraries = {"timm": lambda: timm.create_model(checkpoint), "torchvision": raft_large}
    if of not in libraries:
        return speed_cases.state_dict(of, checkpoint)
    shapes = {name: tuple(tensor.shape) for name, tensor in libraries[of]().state_dict().items()}
    return {name: torch.from_numpy(standin.tensor(name, shape)) for name, shape in shapes.items()}


def _case(name: str, **changes: Any) -> Case:
    """Return a case of benchmarks/speed.py, with other settings: those that both command and script get."""
    (case,) = (case for case in speed_cases.CASES if case.name == name)
    return replace(case, **{"made": "", "end_seconds": None, **changes})


def _frame_jobs(case: Case, what: str, *, long_target: float | None) -> list[Job]:
    """One row, a short video at one frame per second, and every frame of two videos."""
    at_1_fps = replace(case, settings={"model_name": case.settings["model_name"], "extraction_fps": 1.0})
    script = {"batch_size": SCRIPT_BATCH_SIZE}
    every_frame = replace(case, settings={**case.settings, "batch_size": SCRIPT_BATCH_SIZE})
    one, short = f"{what}, one row", f"{what}, 10 s at 1 fps"
    long = f"{what}, 2 × 250 frames, batch size {SCRIPT_BATCH_SIZE}"
    return [
        Job(f"{case.name}_one", one, at_1_fps, case.feature, 1, 1, 1.0, script),
        Job(f"{case.name}_short", short, at_1_fps, case.feature, 10, script_settings=script, target=2),
        Job(f"{case.name}_long", long, every_frame, case.feature, 250, 2, target=long_target),
    ]


def _clip_jobs(case: Case, key: str, size: int, *, until: float, long_target: float) -> list[Job]:
    """One clip, and all clips of two videos. until: the end of the clip in seconds"""
    script, rows = {"stack_size": size, "step_size": size}, 250 // size
    return [
        Job(f"{case.name}_short", f"{case.what}, one clip", case, key, 1, 1, until, script),
        Job(f"{case.name}_long", f"{case.what}, 2 × 250 frames", case, key, rows, 2, None, script, long_target),
    ]


def _flow_jobs(case: Case, frames: Sequence[int]) -> list[Job]:
    return [
        Job(f"{case.name}_{size}", f"{case.feature}, {count} frames", case, case.feature, count - 1, 1, count / 25)
        for size, count in zip(("short", "long"), frames, strict=True)
    ]


VGGISH = _case("vggish", video=BUNNY, settings={})
VGGISH_SCRIPT = {"batch_size": SCRIPT_BATCH_SIZE}

JOBS = [
    *_frame_jobs(_case("resnet18"), "resnet18", long_target=1.6),
    *_frame_jobs(_case("lite0", checkpoints={"": ("timm", MODEL)}), f"timm {MODEL}", long_target=None),
    *_frame_jobs(_case("clip"), "clip ViT-B/32", long_target=None),
    *_clip_jobs(_case("r21d"), "r21d", 16, until=0.64, long_target=1.5),
    *_clip_jobs(_case("s3d"), "s3d", 64, until=2.56, long_target=2.8),
    *_clip_jobs(_case("i3d_rgb"), "rgb", 64, until=2.6, long_target=2),
    Job("vggish_short", "vggish, 5 s", VGGISH, "vggish", 5, script_settings=VGGISH_SCRIPT),
    Job("vggish_long", "vggish, 4 × 5 s", VGGISH, "vggish", 5, 4, script_settings=VGGISH_SCRIPT, target=2),
    *_flow_jobs(_case("raft", checkpoints={"": ("torchvision", "raft_large")}), (2, 4)),
    *_flow_jobs(_case("pwc"), (2, 12)),
]
