"""A checkpoint of another network of the same family is refused, and the error says which network it fits."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from torchvision.models import get_model

from standin import GOLDEN
from video_features import WeightsError
from video_features.models import clip, r21d, raft, resnet, torchvision_video
from video_features.models import timm as timm_family
from video_features.networks import clip as clip_networks
from video_features.networks import raft as raft_networks
from video_features.networks import timm as timm_networks
from video_features.networks import torchvision as torchvision_networks

FILE = Path("mine.pth")


def published(family: str, checkpoint: str) -> dict[str, Any]:
    """The names and shapes of a published checkpoint, without memory for its numbers."""
    shapes = json.loads((GOLDEN / f"{family}_keys.json").read_text())[checkpoint]
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def refused(monkeypatch: pytest.MonkeyPatch, networks: Any, state: dict[str, Any], load: Any, *given: Any) -> str:
    """Return the error of a family that loads this checkpoint."""
    for name in ("read", "_read"):
        monkeypatch.setattr(networks, name, lambda path: state, raising=False)
    # open_clip takes the device as an argument, and moves the network to it.
    create = partial(open_clip.create_model, device="meta")
    monkeypatch.setattr(clip_networks.open_clip, "create_model", create)
    with pytest.raises(WeightsError, match=r"^mine\.pth: not the weights of ") as error, torch.device("meta"):
        load(*given, FILE)
    monkeypatch.undo()
    return str(error.value)


def test_resnet(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(monkeypatch, torchvision_networks, published("resnet", "resnet50"), resnet._network, "resnet18")
    words = "this network, but of resnet50: give model_name=resnet50 (--model-name resnet50); unexpected: "
    assert words in error


def test_two_networks_of_r21d_differ_in_nothing_that_a_checkpoint_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    state = published("r21d", "r2plus1d_34_8_ig65m_ft_kinetics")
    error = refused(monkeypatch, torchvision_networks, state, r21d._network, "r2plus1d_18_16_kinetics")
    assert "but of r2plus1d_34_32_ig65m_ft_kinetics or r2plus1d_34_8_ig65m_ft_kinetics: give model_name=" in error
    state = published("r21d", "r2plus1d_18_16_kinetics")
    error = refused(monkeypatch, torchvision_networks, state, r21d._network, "r2plus1d_34_8_ig65m_ft_kinetics")
    assert "but of r2plus1d_18_16_kinetics: give" in error


def test_torchvision_video(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        state = get_model("swin3d_s").state_dict()
    error = refused(monkeypatch, torchvision_networks, state, torchvision_video._network, "swin3d_t")
    assert "but of swin3d_s: give model_name=swin3d_s (--model-name swin3d_s)" in error


def test_raft_in_the_names_of_torchvision_and_of_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        small = get_model("raft_small").state_dict()
    error = refused(monkeypatch, raft_networks, small, raft._network, "sintel", 20, True)
    assert "but of raft_small: give finetuned_on=raft_small (--finetuned-on raft_small)" in error
    error = refused(monkeypatch, raft_networks, published("raft", "raft"), raft._network, "raft_small", 20, True)
    assert "but of sintel: give finetuned_on=sintel" in error
    error = refused(monkeypatch, raft_networks, small, raft._network, "sintel", 20, False)
    assert "not the weights of this network; missing" in error, "i3d has no setting for the small network"


def test_openais_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    for checkpoint, name, other in (
        ("clip_ViT-B_16", "ViT-B/16", "ViT-B/32"),
        ("clip_RN50x4", "RN50x4", "ViT-B/32"),
        ("clip_ViT-B_32", "ViT-B/32", "RN101"),
    ):
        error = refused(monkeypatch, clip_networks, published("clip", checkpoint), clip._network, other, [], True)
        assert f"but of {name}: give model_name={name} (--model-name {name})" in error


def test_other_networks_of_open_clip_keep_their_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        state = open_clip.model.CLIP(**open_clip.get_model_config("ViT-L-14")).state_dict()
    error = refused(monkeypatch, clip_networks, state, clip._network, "ViT-B-32/laion2b_s34b_b79k", [], True)
    assert "but of ViT-L-14/" in error and "openai" not in error
    assert clip._others("ViT-B-32/datacomp_xl_s13b_b90k")["ViT-L-14/datacomp_xl_s13b_b90k"] == "ViT-L-14"


def test_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        state = timm.create_model("resnet50").state_dict()
    error = refused(monkeypatch, timm_networks, state, timm_family._network, "resnet18.a1_in1k", False)
    assert "not the weights of resnet18.a1_in1k, but of resnet50" in error and "(--model-name resnet50" in error


def test_a_checkpoint_that_fits_no_network_of_the_family(monkeypatch: pytest.MonkeyPatch) -> None:
    state = published("resnet", "resnet50")
    del state["fc.bias"]
    error = refused(monkeypatch, torchvision_networks, state, resnet._network, "resnet50")
    assert error == "mine.pth: not the weights of this network; missing: fc.bias"
