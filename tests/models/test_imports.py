"""Families import neither PyTorch nor the libraries of their networks, once it is known what these know."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torchvision.models.optical_flow import Raft_Large_Weights, Raft_Small_Weights
from torchvision.models.video import R2Plus1D_18_Weights

from video_features import models
from video_features.models import r21d, raft

pytestmark = pytest.mark.processes

LIBRARIES = {"torch", "torchvision", "timm", "open_clip"}
BUILT = {
    "resnet": {"model_name": "resnet18"},
    "timm": {"model_name": "tf_efficientnet_lite0"},
    "clip": {"model_name": "ViT-B/32"},
    "r21d": {},
    "s3d": {},
    "i3d": {},
    "raft": {},
    "pwc": {},
    "vggish": {"post_process": True},
    "torchvision_video": {"model_name": "r3d_18"},
}
BUILD = """
import importlib, json, sys
found = {}
for name, settings in json.loads(sys.argv[1]).items():
    family = importlib.import_module(f"video_features.models.{name}")
    rows = []
    for predict in (False, True):
        for stream in family.build(family.Settings(**settings), predict=predict).streams:
            shape = stream.row_shape if isinstance(stream.row_shape, tuple) else stream.row_shape(256, 256)
            rows.append([stream.key, stream.weights.source, shape, stream.labels])
    found[name] = [rows, sorted({"torch", "torchvision", "timm", "open_clip"} & set(sys.modules))]
print(json.dumps(found))
"""


def run(code: str, *arguments: str, home: Path) -> Any:
    environment = {**os.environ, "TORCH_HOME": str(home)}
    command = [sys.executable, "-c", code, *arguments]
    return json.loads(subprocess.check_output(command, env=environment, text=True))


def test_no_family_imports_a_library_of_networks(tmp_path: Path) -> None:
    names = [f"video_features.models.{module.name}" for module in pkgutil.iter_modules(models.__path__)]
    code = f"import json, sys, {', '.join(names)}\nprint(json.dumps([sorted(sys.modules)]))"
    (modules,) = run(code, home=tmp_path)
    assert set(names) <= set(modules) and not LIBRARIES & set(modules)


def test_a_feature_that_was_built_before_needs_no_library(tmp_path: Path) -> None:
    first, again = (run(BUILD, json.dumps(BUILT), home=tmp_path) for _ in range(2))
    assert first.keys() == again.keys() == BUILT.keys()
    for name, (rows, libraries) in again.items():
        assert rows == first[name][0] and len(rows) >= 2 and not libraries, name
    assert "torchvision" in first["resnet"][1]
    new = run(BUILD, json.dumps({"resnet": {"model_name": "resnet34"}}), home=tmp_path)
    assert "torchvision" in new["resnet"][1], "another model is not known yet"


def test_urls_are_those_of_torchvision() -> None:
    large, small = Raft_Large_Weights, Raft_Small_Weights
    assert {
        "sintel": large.C_T_SKHT_V1.url,
        "kitti": large.C_T_SKHT_K_V1.url,
        "things": large.C_T_V1.url,
        "sintel_v2": large.C_T_SKHT_V2.url,
        "kitti_v2": large.C_T_SKHT_K_V2.url,
        "things_v2": large.C_T_V2.url,
        "raft_small": small.C_T_V1.url,
        "raft_small_v2": small.C_T_V2.url,
    } == raft.NETWORKS
    assert r21d.URLS["r2plus1d_18_16_kinetics"] == R2Plus1D_18_Weights.KINETICS400_V1.url
