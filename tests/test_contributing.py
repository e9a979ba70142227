"""Every example in CONTRIBUTING runs and behaves as the page says."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import grey_levels, write_video
from video_features import SettingsError, extract
from video_features.extraction import WithHead
from video_features.media import Identity, frames_of
from video_features.outputs.formats import _base as formats
from video_features.runtimes.base import NetworkSpec, Placement
from video_features.runtimes.devices import Device

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture
def example(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The example module from the section `How to add a(n) …`."""
    (_, text) = PAGE.read_text(encoding="utf-8").split(f"## How to add {request.param}\n")
    code = re.findall(r"```python\n(.*?)```", text.partition("\n## ")[0], flags=re.DOTALL)
    module = types.ModuleType("example")
    sys.modules["example"] = module
    exec(code[0], module.__dict__)
    assert len(code) == 1
    yield module
    del sys.modules["example"]


@pytest.mark.parametrize("example", ["a model"], indirect=True)
def test_a_family(example: Any) -> None:
    extractor = example.build(example.Settings(model_name="bright50"), predict=False)
    (stream,) = extractor.streams
    assert stream.weights == example.published_weights("bright50")
    assert stream.preprocess(np.full((4, 6, 3), 51, np.uint8)).ravel() == pytest.approx(0.2)
    with pytest.raises(SettingsError, match="did you mean bright18"):
        example.build(example.Settings(model_name="bright81"), predict=False)


def test_a_family_imports_from_three_places() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("## How to add a model")[2].partition("\n## ")[0]
    assert len(set(re.findall(r"^from (video_features\S*) import", text, flags=re.MULTILINE))) == 3


@pytest.mark.parametrize("example", ["an output format"], indirect=True)
def test_a_format(example: Any, tmp_path: Path, installed_families: None, monkeypatch: pytest.MonkeyPatch) -> None:
    video, given = write_video(tmp_path / "a.mp4", grey_levels(4)), {"device": "cpu", "output_path": tmp_path / "out"}
    with pytest.raises(SettingsError, match="unknown on_extraction 'save_example'"):
        extract(video, "colour", on_extraction="save_example", **given)
    monkeypatch.setitem(formats._modules(), "example", "example")
    for status in ("done", "skipped"):
        (outcome,) = extract(video, "colour", on_extraction="save_example", **given)
        assert outcome.status == status and outcome.features is not None
    written = example.FORMAT.load((tmp_path / "out" / "colour" / "a_colour.safetensors").open("rb"))
    np.testing.assert_array_equal(written, outcome.features.values["colour"])
    assert written[:, 0] == pytest.approx([16, 22, 28, 34], abs=2)


@pytest.mark.parametrize("example", ["a runtime"], indirect=True)
def test_a_runtime(example: Any) -> None:
    network = WithHead(torch.nn.Linear(3, 2), torch.nn.Linear(2, 5))
    runtime = example.Eager(NetworkSpec("net", lambda: network, "key"), Placement(Device("cpu")))
    batch = torch.arange(12.0).reshape(4, 3)
    runtime.prepare(4)
    features, logits = runtime.forward(list(batch.numpy()))
    expected = network.trunk(batch)
    np.testing.assert_allclose(features, expected.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, network.head(expected).detach(), rtol=1e-5, atol=1e-6)
    assert "cpu" in runtime.name and not runtime.pads and runtime.max_rows is None


@pytest.mark.parametrize("example", ["a source"], indirect=True)
def test_a_source(example: Any) -> None:
    with example.Noise(Identity("noise", "noise", "noise", is_stills=True), fps=25) as source:
        frames = list(frames_of(source))
    assert len(frames) == 100 and float(frames[3].seconds) == 0.12
    assert frames[3].rgb.shape == (64, 64, 3) and not np.array_equal(frames[3].rgb, frames[4].rgb)


@pytest.mark.parametrize("example", ["an engine"], indirect=True)
def test_an_engine(example: Any, tmp_path: Path, installed_families: None, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [write_video(tmp_path / f"{name}.mp4", grey_levels(4)) for name in "ab"]
    monkeypatch.setattr("video_features.runs.jobs.choose_executor", example.Inline)
    outcomes = list(extract([*videos, tmp_path / "c.mp4"], "colour", device="cpu", batch_size=8))
    assert [outcome.status for outcome in outcomes] == ["done", "done", "failed"]
    assert outcomes[1].features is not None and len(outcomes[1].features) == 4
