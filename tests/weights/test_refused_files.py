"""Files that are refused as weights: other kinds of files, damaged files, and tensors with NaN or infinity."""

from __future__ import annotations

import gzip
import os
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import safetensors.torch
import timm
import torch
from test_weights import _Holder

import standin
from video_features import WeightsError, load, plan
from video_features.networks import clip
from video_features.weights import check_finite, read
from video_features.weights.obtain import Weights, verify

SMALL_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"layers": 1, "width": 64, "patch_size": 32, "image_size": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 500, "width": 64, "heads": 1, "layers": 1},
}
BAD = {"NaN": float("nan"), "infinity": float("inf"), "minus infinity": float("-inf")}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_one_number_that_is_not_finite_is_refused_by_its_key(tmp_path: Path, suffix: str, value: float) -> None:
    state = standin.state_dict("resnet", "resnet18")
    state["layer2.0.conv1.weight"][3, 5, 1, 1] = value
    path = tmp_path / f"diverged{suffix}"
    (torch.save if suffix == ".pth" else safetensors.torch.save_file)(state, path)
    message = rf"diverged\{suffix}: NaN or infinity in 1 of {len(state)} tensors, first in layer2\.0\.conv1\.weight; "
    with pytest.raises(WeightsError, match=message):
        load("resnet", model_name="resnet18", weights=path)


def test_timm_weights_under_other_names_are_checked(tmp_path: Path) -> None:
    state = timm.create_model("vit_tiny_patch16_224").state_dict()
    state["norm.weight"][0] = float("nan")
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "authors.pth")
    with pytest.raises(WeightsError, match=r"authors\.pth: NaN or infinity in 1 of \d+ tensors, first in .*norm\."):
        load("timm", model_name="vit_tiny_patch16_224", weights=tmp_path / "authors.pth")


@pytest.mark.parametrize("form", ["torchscript", "state dict"])
def test_clip_weights_of_every_form_are_checked(tmp_path: Path, form: str) -> None:
    network = open_clip.CLIP(**SMALL_CLIP, quick_gelu=True)  # type: ignore[arg-type]
    state = network.state_dict()
    state["visual.proj"][0, 0] = float("inf")
    path = tmp_path / "inf.pt"
    if form == "torchscript":
        torch.jit.save(torch.jit.script(_Holder(state)), path)
    else:
        torch.save(state, path)
    with pytest.raises(WeightsError, match=r"inf\.pt: NaN or infinity in 1 of \d+ tensors, first in visual\.proj"):
        load("clip", model_name="custom", weights=path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("inf", r"published\.pt: NaN or infinity in 1 of \d+ tensors, first in logit_scale"),
        ("page", r"published\.pt: not a checkpoint that can be read safely \(an HTML page"),
    ],
)
def test_published_clip_weights_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str
) -> None:
    path = tmp_path / "published.pt"
    network = open_clip.CLIP(**SMALL_CLIP)  # type: ignore[arg-type]
    state = {**network.state_dict(), "logit_scale": torch.tensor(float("inf"))}
    torch.save(state, path) if content == "inf" else path.write_text("<html></html>")
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: network)
    with pytest.raises(WeightsError, match=message):
        clip.load_listed("ViT-B-32/laion2b_s34b_b79k", "ViT-B-32", "laion2b_s34b_b79k", path, own=False)


def test_every_dtype_is_checked_and_large_finite_numbers_are_accepted() -> None:
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64)
    largest = {str(dtype): torch.full((2,), torch.finfo(dtype).max, dtype=dtype) for dtype in floats}
    small = {"float8": torch.tensor([448.0, -448]).to(torch.float8_e4m3fn), "empty": torch.zeros(0)}
    integers = {"count": torch.tensor(2**62), "flags": torch.tensor([True, False])}
    check_finite({**largest, **small, **integers}, Path("a.pth"))
    for name, tensor in [*largest.items(), *list(small.items())[:1]]:
        wrong = tensor.to(torch.complex64 if tensor.is_complex() else torch.float32).clone()
        wrong[1] = float("nan")
        with pytest.raises(WeightsError, match=rf"a\.pth: NaN or infinity in 1 of 2 tensors, first in {name};"):
            check_finite({"good": torch.zeros(1), name: wrong.to(tensor.dtype)}, Path("a.pth"))


POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files")


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_UNIX) as opened:
        patch.chdir(path.parent)  # the path of a socket must be short
        opened.bind(path.name)


def null(path: Path) -> None:
    path.symlink_to("/dev/null")


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("setting", ["load", "plan"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (folder, "expected a file, found a folder"),
        pytest.param(pipe, "expected a file, found a named pipe", marks=POSIX),
        pytest.param(listening, "expected a file, found a socket", marks=POSIX),
        pytest.param(null, "expected a file, found a device", marks=POSIX),
        (dangling, "a link to a file that is not there"),
        (lambda path: None, "no such weights file: "),
    ],
)
@pytest.mark.parametrize(("feature", "model"), [("resnet", "resnet18"), ("clip", "custom")])
def test_a_path_that_is_no_file_is_named_as_what_it_is(
    tmp_path: Path, make: Callable[[Path], None], message: str, feature: str, model: str, setting: str
) -> None:
    path = tmp_path / "weights.pth"
    make(path)
    with pytest.raises(WeightsError, match=rf"^{model}: .*weights\.pth.*{message}|^{model}: {message}.*weights\.pth"):
        if setting == "load":
            load(feature, model_name=model, weights=path)
        else:
            list(plan([], feature, model_name=model, weights=path))


def zipped(name: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"something")

    return make


def tarred(path: Path) -> None:
    (path.parent / "net.ckpt").write_bytes(b"something")
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "net.ckpt", "net.ckpt")


def truncated(save: Callable[[Any, Path], None], part: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        save({"weight": torch.ones(5000), "bias": torch.ones(5000)}, path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])

    return make


def content(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def legacy(state: Any, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def torchscript(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 178793939\n"


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("net.pth", content(b""), "an empty file: download or copy it again"),
        ("net.safetensors", content(b""), "an empty file: "),
        ("net.pt", content(b"\n<!DOCTYPE html>\n<html><title>Sign in</title>"), "an HTML page, such as a login"),
        ("net.safetensors", content(b"<html>404</html>" * 100), "an HTML page"),
        ("net.pt", content(b'{"error": "not found"}'), "text in JSON, such as a server's error"),
        ("net.pt", content(b"<?xml version='1.0'?><Error/>"), "text in XML"),
        ("net.pt", content("Zugriff verweigert: früh\n".encode() * 300), "a text file"),
        ("net.pth", content(POINTER), "a Git LFS pointer, not the file itself: run `git lfs pull`"),
        ("net.safetensors", content(POINTER), "a Git LFS pointer"),
        ("net.pth", content(gzip.compress(b"net")), "compressed with gzip: unpack it first"),
        ("net.pth", content(bytes(10_000)), "10000 bytes that begin with 4096 zeros"),
        ("net.pth", zipped("net.onnx"), r"a zip archive that is no checkpoint, with net\.onnx in it: unpack it first"),
        ("net.safetensors", zipped("a/data.pkl"), r"a file of PyTorch with a name that ends in \.safetensors"),
        ("net.pth", tarred, r"a tar archive that is no checkpoint, with net\.ckpt in it"),
        ("net.pth", torchscript, "a TorchScript archive, which only clip reads"),
        ("net.pth", truncated(torch.save, 0.5), "a truncated or damaged checkpoint of PyTorch"),
        ("net.pth", truncated(legacy, 0.5), "a pickle that is truncated|unexpected EOF"),
        ("net.safetensors", truncated(safetensors.torch.save_file, 0.5), r"truncated: 20\d\d\d bytes, and its header"),
        ("net.safetensors", truncated(safetensors.torch.save_file, 0.001), r"truncated: \d\d bytes, and its header"),
        ("net.pth", truncated(safetensors.torch.save_file, 1), r"a safetensors file: give its name the ending"),
        ("net.pth", content(np.random.default_rng(0).bytes(3000)), "a different kind of file, or more than tensors"),
    ],
)
def test_the_reason_says_what_a_file_looks_like(
    tmp_path: Path, name: str, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / name)
    expected = rf"{name}: not a checkpoint that can be read safely \({message}"
    with pytest.raises(WeightsError, match=expected) as raised:
        read(tmp_path / name)
    assert "weights_only" not in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_may_not_be_read_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "net.pth").write_bytes(b"net")
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(WeightsError, match=r"net\.pth: cannot be read \(Permission denied\)"):
        verify(tmp_path / "net.pth", Weights())
