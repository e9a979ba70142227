"""`weights list`: a table that fits the screen, and everything that is known as JSON."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from torchvision.models import ResNet18_Weights

from video_features.cli.main import cli
from video_features.cli.table import table
from video_features.models import pwc, r21d, raft, resnet
from video_features.weights import Weights

HEADS = ["MODEL", "HERE", "SIZE", "LICENCE", "SOURCE"]


@pytest.fixture(autouse=True)
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PyTorch's folder of checkpoints, with one file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / Path(r21d.URLS["r2plus1d_18_16_kinetics"]).name).write_bytes(bytes(12_345_678))
    return folder


def listed(*arguments: str, columns: int = 80) -> list[str]:
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(cli, ["weights", "list", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_fits_the_screen(columns: int) -> None:
    lines = listed("r21d", columns=columns)
    assert [len(line) <= columns for line in lines] == [True] * 4
    assert lines[0].split() == HEADS
    model, here, size, unit, licence, source = lines[1].split()
    assert (model, here, size, unit) == ("r2plus1d_18_16_kinetics", "yes", "12", "MB")
    assert licence == "unknown" and "download.pytorch.org".startswith(source.rstrip("…"))
    assert lines[2].split()[:3] == ["r2plus1d_34_32_ig65m_ft_kinetics", "no", "unknown"]
    assert columns < 120 or lines[2].endswith("  github.com/moabitcoin/ig65m-pytorch")


def test_several_features_are_named() -> None:
    lines = listed("pwc")
    assert lines[1].startswith("pwc_net_sintel  no")
    (line,) = listed("raft", "--model-name", "kitti")[1:]
    assert line.startswith("kitti  no ") and line.endswith("download.pytorch.org")


def test_the_size_that_torchvision_publishes() -> None:
    published = resnet.published_weights("resnet18").size_bytes
    assert published == pytest.approx(46_830_571, rel=1e-4)  # of resnet18-f37072fd.pth
    assert ResNet18_Weights.IMAGENET1K_V1.meta["_file_size"] * 1024**2 == pytest.approx(published, abs=1)
    assert listed("resnet", "--model-name", "resnet18")[1].split()[:4] == ["resnet18", "no", "47", "MB"]


def test_json_has_everything(checkpoints: Path) -> None:
    first, *others = json.loads("\n".join(listed("r21d", "--json")))
    url = r21d.URLS["r2plus1d_18_16_kinetics"]
    expected = {
        "feature": "r21d",
        "model": "r2plus1d_18_16_kinetics",
        "url": url,
        "source": url,
        "sha256": "91a641e6",
        "path": str(checkpoints / Path(url).name),
        "size_bytes": 12_345_678,
        "trained_on": "Kinetics-400",
        "licence": "unknown",
        "paper": "https://arxiv.org/abs/1711.11248",
    }
    assert expected.items() <= first.items()
    assert {field.name for field in fields(Weights)} <= set(first)
    assert [other["path"] for other in others] == [None, None] and others[0]["size_bytes"] is None
    assert (
        pwc.published_weights("pwc_net_sintel").git_blob
        == json.loads("\n".join(listed("pwc", "--json")))[0]["git_blob"]
    )
    assert len(json.loads("\n".join(listed("raft", "--json")))) == len(raft.NETWORKS)


def test_columns_are_cut_and_left_out_from_the_right() -> None:
    rows = [["a-long-name", "yes", "some text that is long"], ["b", "no", "short"]]
    assert table(["NAME", "HERE", "TEXT"], rows, 80) == [
        "NAME         HERE  TEXT",
        "a-long-name  yes   some text that is long",
        "b            no    short",
    ]
    assert table(["NAME", "HERE", "TEXT"], rows, 30)[1:] == [
        "a-long-name  yes   some text …",
        "b            no    short",
    ]
    assert table(["NAME", "HERE", "TEXT"], rows, 24) == ["NAME         HERE", "a-long-name  yes", "b            no"]
    assert table(["NAME", "HERE", "TEXT"], rows, 5)[1] == "a-long-name"
