"""Runtimes of networks: choice, agreement of results, the cache on disk, and fallbacks."""

from __future__ import annotations

import copy
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import write_video
from video_features import SettingsError, WeightsError, extract, load
from video_features.cache import cache_folder, digest
from video_features.extraction import WithHead
from video_features.runtimes import conversion, openvino
from video_features.runtimes.base import NetworkSpec, Placement
from video_features.runtimes.choose import Runner, choose_runtime, runtime_name
from video_features.runtimes.devices import Device
from video_features.runtimes.openvino import VERSION, OpenVino
from video_features.runtimes.pytorch import Torch, channels_last
from video_features.runtimes.threads import passes_at_once

CPU = Placement(Device("cpu"))
LITE0 = {"model_name": "tf_efficientnet_lite0"}
NEEDS_BF16 = pytest.mark.skipif("BF16" not in openvino.capabilities(), reason="this CPU has no bf16 instructions")


class UnequalSides(nn.Module):
    """A network that counts passes. The sides differ in size: (B, 3) → (B, 2) features, (B, 1) logits."""

    def __init__(self, passes: list[int] | None = None) -> None:
        super().__init__()
        self.weights = nn.Linear(3, 2)
        self.passes = [] if passes is None else passes

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        self.passes.append(len(batch))
        features = self.weights(batch)
        return features, features.sum(dim=1, keepdim=True)

    def encode(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        return batch * 2, batch.sum(dim=1)


class Untraceable(nn.Module):
    """A network that no tracer can follow, because the control flow depends on Python state."""

    def forward(self, batch: Tensor) -> tuple[Tensor, None]:
        if type(batch) is not Tensor or torch.jit.is_tracing():
            raise RuntimeError("data-dependent")
        return batch.flip(1), None


def spec(network: Callable[[], nn.Module], key: str = "") -> NetworkSpec:
    return NetworkSpec("sides", network, key or f"{network}")


def placement(runtime: str) -> Placement:
    return replace(CPU, runtime=runtime)


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_auto_takes_openvino_on_a_cpu(runtime: str) -> None:
    assert isinstance(choose_runtime(spec(UnequalSides), CPU), OpenVino)
    assert isinstance(choose_runtime(spec(UnequalSides), replace(CPU, precision="fp16")), Torch)


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_bf16_needs_a_cpu_that_has_it(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bf16 = replace(CPU, precision="bf16")
    monkeypatch.setattr(openvino, "capabilities", lambda: ["FP32", "INT8", "BF16", "BIN"])
    assert {runtime_name(bf16), runtime_name(replace(bf16, runtime="openvino"))} == {"openvino"}
    monkeypatch.setattr(openvino, "capabilities", lambda: ["FP32", "INT8", "BIN"])
    for name in ("auto", "openvino"):
        with pytest.raises(
            SettingsError, match=r"precision=bf16 needs a CPU with bf16 instructions \(AVX-512 BF16 or AMX"
        ):
            load("timm", **LITE0, runtime=name, precision="bf16", device="cpu")
    with pytest.raises(SettingsError, match="precision=bf16 needs a CPU"):  # raised before any process starts
        extract("a.mp4", "timm", **LITE0, precision="bf16", devices=["cpu", "cpu"])
    assert runtime_name(replace(bf16, runtime="torch")) == "torch"


@NEEDS_BF16
@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_bf16_rounds_the_factors_of_products(runtime: str) -> None:
    torch.manual_seed(0)
    network, batch = nn.Linear(512, 64), torch.randn(4, 512)
    run = Runner(spec(lambda: WithHead(network, None), "bf16"), replace(CPU, precision="bf16"))
    found, _ = run(list(batch.numpy()))
    with torch.inference_mode():
        exact = network(batch).numpy()
    difference = np.abs(found - exact).max() / np.abs(exact).max()
    assert run.runtime.name.endswith(" bf16 on cpu") and found.dtype == np.float32
    assert 1e-4 < difference < 2e-2, "bf16 has 8 bits: a relative rounding error of at most 2^-9 in each factor"


@NEEDS_BF16
@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_a_network_converted_for_one_precision_is_exact_in_the_other(runtime: str) -> None:
    torch.manual_seed(0)
    network, batch = nn.Linear(512, 64), torch.randn(4, 512)
    builds: list[str] = []

    def rows(precision: str, key: str) -> np.ndarray[Any, Any]:
        def build() -> nn.Module:
            builds.append(key)
            return WithHead(network, None)

        run = Runner(spec(build, key), replace(CPU, precision=precision))
        return run(list(batch.numpy()))[0]

    exact, rounded = rows("fp32", "converted in fp32"), rows("bf16", "converted in bf16")
    assert not np.allclose(exact, rounded, rtol=1e-4)
    assert np.array_equal(rows("bf16", "converted in fp32"), rounded)
    assert np.array_equal(rows("fp32", "converted in bf16"), exact)
    assert builds == ["converted in fp32", "converted in bf16"], "the others came from the cache"


def test_auto_takes_torch_where_openvino_is_not_installed() -> None:
    assert isinstance(choose_runtime(spec(UnequalSides), CPU), Torch)
    with pytest.raises(SettingsError, match=r'needs an extra: pip install "video_features\[openvino\]"'):
        load("timm", **LITE0, runtime="openvino")
    with pytest.raises(SettingsError, match="runtime=openvino needs an extra"):  # raised before any process starts
        extract("a.mp4", "timm", **LITE0, runtime="openvino", devices=["cpu", "cpu"])


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_openvino_refuses_what_it_does_not_do(runtime: str) -> None:
    with pytest.raises(SettingsError, match="computes in fp32 or bf16; precision=fp16 needs runtime=torch"):
        load("timm", **LITE0, runtime="openvino", precision="fp16")
    with pytest.raises(SettingsError, match="unknown runtime 'openvin': did you mean openvino"):
        load("timm", **LITE0, runtime="openvin")
    with pytest.raises(SettingsError, match="runtime=openvino is for the CPU, and the device is mps: give device=cpu"):
        runtime_name(Placement(Device("mps"), "openvino"))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
@pytest.mark.parametrize("name", ["openvino", "compile"])
def test_all_give_what_torch_gives(runtime: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    network = UnequalSides()
    plain, other = (Runner(spec(lambda: network, "agree"), placement(choice)) for choice in ("torch", name))
    batch = torch.randn(5, 3).numpy()
    with caplog.at_level(logging.WARNING):
        for size in (None, 5, 8):  # the size to which a batch is padded
            for expected, found in zip(plain(batch, size), other(batch, size), strict=True):
                assert expected is not None and found is not None and expected.shape == found.shape
                assert np.allclose(expected, found, rtol=1e-5, atol=1e-6) and found.any()
            codes, _ = other.encode(batch, size)
            assert len(codes) == 5
            for row, (doubled, total) in zip(batch, codes, strict=True):
                assert np.allclose(doubled, row * 2) and np.allclose(total, row.sum(), atol=1e-6)
    assert not [record for record in caplog.records if record.name.startswith("video_features")]


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
@pytest.mark.parametrize(("name", "who"), [("openvino", "OpenVINO"), ("compile", "torch.compile")])
def test_a_network_that_it_cannot_take_runs_in_torch_and_that_is_told_once(
    runtime: str, name: str, who: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(network: object) -> Callable[[Tensor], Tensor]:
        def fail(batch: Tensor) -> Tensor:
            raise RuntimeError("no C++ compiler")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    run = Runner(spec(Untraceable), placement(name))
    batch = np.arange(6, dtype=np.float32).reshape(2, 3)
    for _ in range(2):
        assert run(batch)[0].tolist() == batch[:, ::-1].tolist()
    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning.startswith(f"sides: {who} cannot run the network (") and "torch" in run.runtime.name


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_a_converted_network_is_kept_and_not_built_again(runtime: str, caplog: pytest.LogCaptureFixture) -> None:
    built: list[nn.Module] = []

    def build() -> nn.Module:
        built.append(UnequalSides())
        return built[-1]

    batch = np.random.default_rng(0).standard_normal((1, 3), np.float32)
    with caplog.at_level(logging.INFO):
        first = Runner(spec(build, "kept"), CPU)(batch)
        again = Runner(spec(build, "kept"), CPU)(batch)
    assert caplog.messages == ["Converting sides to OpenVINO for inputs of 1×3 (once: the result is kept)"]
    assert len(built) == 1 and np.array_equal(first[0], again[0])
    other = Runner(spec(build, "another network"), CPU)(batch)
    assert len(built) == 2 and not np.allclose(first[0], other[0])
    Runner(spec(build, "kept"), CPU)(np.ones((2, 3), np.float32))  # a new shape needs a new conversion
    assert len(built) == 3


@NEEDS_BF16
@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_a_large_error_of_bf16_is_not_taken_for_a_wrong_conversion(
    runtime: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    network, halves = nn.Linear(512, 4, bias=False), torch.randn(4, 256)
    with torch.no_grad():  # the two halves of a row cancel, except for a hundredth
        network.weight[:, 256:] = -network.weight[:, :256]
    batch = torch.cat([halves, halves + 0.01 * torch.randn(4, 256)], dim=1)
    exact = network(batch).detach().numpy()
    run = Runner(spec(lambda: WithHead(network, None), "cancels"), replace(CPU, precision="bf16"))
    difference = np.abs(run(list(batch.numpy()))[0] - exact).max() / np.abs(exact).max()
    assert 0.1 < difference < 1 and run.runtime.name.startswith("openvino") and not caplog.records


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
@pytest.mark.parametrize("damage", ["network.xml", "network.bin", "manifest.json", "manifest.json is missing"])
def test_a_conversion_that_was_cut_is_made_anew(runtime: str, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    network, batch = UnequalSides(), np.random.default_rng(0).standard_normal((1, 3), np.float32)
    expected = Runner(spec(lambda: network, damage), CPU)(batch)
    (folder,) = (cache_folder() / "openvino").glob(f"{digest(f'{VERSION} {damage}')}/*")
    name, _, is_missing = damage.partition(" ")
    if is_missing:
        (folder / name).unlink()
    else:
        os.truncate(folder / name, (folder / name).stat().st_size // 2)
    for logged in (1, 1):
        found = Runner(spec(lambda: network, damage), CPU)(batch)
        assert np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])
        assert len(caplog.records) == logged, "the second time it is whole again"
    assert caplog.records[0].getMessage().startswith(f"{folder}: damaged (")


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_a_network_is_compiled_before_its_first_batch(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, batch = UnequalSides(), np.ones((2, 3), np.float32)
    expected, _ = Runner(spec(lambda: network, "prepared"), CPU)(batch)
    run = Runner(spec(lambda: network, "prepared"), CPU)
    for size in (2, 5):  # for the second it was not converted: the first batch does that
        run.runtime.prepare(size)
    monkeypatch.setattr(OpenVino, "_compile", None)
    assert np.array_equal(run(batch)[0], expected)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=NEEDS_BF16)])
@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_a_converted_network_that_computes_something_else_is_not_used(
    runtime: str, precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    convert = conversion.convert

    def convert_another_network(network: Any, leaves: list[Any]) -> Any:
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.network.weights.weight *= 1.05
        return convert(other, leaves)

    monkeypatch.setattr(conversion, "convert", convert_another_network)
    network, batch = UnequalSides(), np.ones((1, 3), np.float32)
    run = Runner(spec(lambda: network, "converted wrongly"), replace(CPU, precision=precision))
    expected = network(torch.from_numpy(batch))[0].detach()
    assert np.allclose(run(batch)[0], expected, rtol=1e-5 if precision == "fp32" else 1e-2, atol=1e-2)
    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning.startswith("sides: OpenVINO cannot run the network (its results differ from PyTorch's by ")
    assert "torch" in run.runtime.name


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_outputs_that_are_hardly_more_than_rounding_may_differ(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = conversion.convert

    def convert_almost_the_same(network: Any, leaves: list[Any]) -> Any:
        other = copy.deepcopy(network)
        with torch.no_grad():
            other.network.weights.weight *= 2
        return convert(other, leaves)

    monkeypatch.setattr(conversion, "convert", convert_almost_the_same)
    run = Runner(spec(UnequalSides, "hardly more than rounding"), CPU)
    run(np.full((1, 3), 1e-5, np.float32))
    assert "openvino" in run.runtime.name


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
def test_a_conversion_starts_no_process(tmp_path: Path) -> None:
    # `openvino.convert_model` forks a process that sends usage data over the network.
    script = f"""
import sys, time
forks = []
sys.addaudithook(lambda event, _: forks.append(event) if event == "os.fork" else None)
import numpy as np
from video_features import load
extractor = load("timm", **{LITE0}, runtime="openvino", device="cpu")
extractor.extract(np.zeros((1, 32, 32, 3), np.uint8), source_fps=1)
time.sleep(0.5)
print(extractor.streams[0].run.runtime.name, forks)
"""
    environment = {**os.environ, "TORCH_HOME": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith("openvino 20") and found.stdout.endswith(" on cpu []\n")


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_where_nothing_can_be_kept_it_is_told_and_all_goes_on(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    network = UnequalSides()
    features, _ = Runner(spec(lambda: network, "unkept"), CPU)(np.ones((1, 3), np.float32))
    assert np.allclose(features, network(torch.ones(1, 3))[0].detach(), atol=1e-6)
    (warning,) = (record.getMessage() for record in caplog.records)
    assert str(cache_folder() / "openvino") in warning and "converted networks cannot be cached there" in warning


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_weights_that_do_not_fit_are_told_at_once_also_by_openvino(
    runtime: str, standin_file: Callable[[str, str], Path]
) -> None:
    with pytest.raises(WeightsError, match="resnet18"):
        load("resnet", model_name="resnet50", weights=standin_file("resnet", "resnet18"))


@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_one_network_with_other_settings_is_another_one(runtime: str, standin_file: Callable[[str, str], Path]) -> None:
    file = standin_file("raft", "raft")
    once, twice, again = (
        load("raft", weights=file, num_flow_updates=updates, extraction_fps=fps).streams[0].run.runtime
        for updates, fps in ((1, None), (2, None), (1, 5))
    )
    folders = [made._converted._folder for made in (once, twice, again) if isinstance(made, OpenVino)]
    assert folders[0] != folders[1] and folders[0] == folders[2]


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_features_of_several_networks_agree(runtime: str, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", (np.roll(picture, 3 * k, axis=1) for k, picture in enumerate(textures(6))))
    ours, theirs = (load("timm", **LITE0, runtime=name, batch_size=4).extract(video) for name in ("openvino", "torch"))
    assert ours.record["runtime"]["timm"].startswith("openvino 20") and "torch" in theirs.record["runtime"]["timm"]
    expected = theirs.values["timm"]
    assert np.abs(ours.values["timm"] - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_openvino_gets_no_more_rows_in_a_pass_than_save_something(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "a.mp4", textures(9))
    sizes: list[int] = []
    run = OpenVino.forward

    def noting(self: OpenVino, rows: Sequence[Any]) -> object:
        sizes.append(len(rows))
        return run(self, rows)

    monkeypatch.setattr(OpenVino, "forward", noting)
    many = load("timm", **LITE0, batch_size=16).extract(video).values["timm"]
    assert sizes == [4, 4, 4], "nine rows, with the last pass padded"
    single = load("timm", **LITE0, batch_size=1).extract(video).values["timm"]
    assert sizes[3:] == [1] * 9
    assert len(single) == 9 and np.abs(many - single).max() <= 1e-4 * np.abs(single).max()


@pytest.mark.parametrize(
    ("cores", "frames", "clips"),
    [(1, (1, 1), (1, 1)), (2, (2, 1), (1, 2)), (3, (3, 1), (1, 3)), (8, (4, 2), (2, 4)), (64, (4, 16), (2, 32))],
)
def test_long_passes_are_fewer_at_once_and_have_more_cores(
    cores: int, frames: tuple[int, int], clips: tuple[int, int]
) -> None:
    assert passes_at_once(cores, are_long=False) == frames
    assert passes_at_once(cores, are_long=True) == clips


def textures(count: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        ("torch", "bf16"),
        ("torch", "fp16"),
        pytest.param("openvino", "bf16", marks=[NEEDS_BF16, pytest.mark.slow]),
        pytest.param("openvino", "fp16", marks=pytest.mark.slow),  # `auto` then takes PyTorch
    ],
    indirect=["runtime"],
)
def test_precision_changes_the_numbers_a_little_and_is_recorded(runtime: str, precision: str, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", textures(2))
    outcomes = [
        next(extract(video, "timm", **LITE0, precision=name, output_path=tmp_path / name, device="cpu"))
        for name in ("fp32", precision)
    ]
    exact, rounded = (outcome.features for outcome in outcomes)
    assert exact is not None and rounded is not None, [outcome.reason for outcome in outcomes]
    difference = np.abs(exact.values["timm"] - rounded.values["timm"]).max() / np.abs(exact.values["timm"]).max()
    assert 1e-4 < difference < 0.1 and rounded.values["timm"].dtype == np.float32
    for features, name in ((exact, "fp32"), (rounded, precision)):
        assert features.record["settings"]["precision"] == name
        library = runtime if name != "fp16" else "torch"
        assert re.fullmatch(rf"{library} \S+ {name} on cpu", features.record["runtime"]["timm"])
    for then, now in (("fp32", precision), (precision, "fp32")):
        settings = {**LITE0, "precision": now, "output_path": tmp_path / then, "device": "cpu"}
        (outcome,) = extract(video, "timm", **settings)
        assert outcome.status == "failed" and f"(precision was {then} and is {now}; see " in outcome.reason
        (outcome,) = extract(video, "timm", **{**settings, "precision": then})
        assert outcome.status == "skipped"


@NEEDS_BF16
@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino"], indirect=True)
def test_every_process_computes_in_bf16(runtime: str, tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{name}.mp4", textures(2)) for name in "ab"]
    settings = {**LITE0, "runtime": "openvino", "precision": "bf16", "devices": ["cpu", "cpu"]}
    outcomes = list(extract(videos, "timm", output_path=tmp_path / "out", **settings))
    assert [outcome.status for outcome in outcomes] == ["done", "done"], [outcome.reason for outcome in outcomes]
    for outcome in outcomes:
        assert outcome.features is not None
        assert re.fullmatch(r"openvino \S+ bf16 on cpu", outcome.features.record["runtime"]["timm"])


def test_channels_last_is_a_layout_and_changes_no_number() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(3, 4, 3), nn.Flatten(2), nn.LazyLinear(2)).eval()
    batch = torch.randn(2, 3, 4, 5, 6)
    expected = network(batch)
    strides = network[0].weight.stride()
    found = channels_last(network)(batch.contiguous(memory_format=torch.channels_last_3d))
    assert network[0].weight.stride() != strides and torch.allclose(found, expected, atol=1e-6)
