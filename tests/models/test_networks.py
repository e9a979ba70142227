"""Every network matches the reference on the same stand-in weights and input, within 1e-4 of the largest value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import pytest

import standin
from conftest import MISTAKES_IN_FLOW
from video_features import load
from video_features.extraction import Stream
from video_features.models.clip import OPENAI

pytestmark = [pytest.mark.usefixtures("quick_networks"), pytest.mark.slow]
in_both = pytest.mark.parametrize("runtime", ["torch", pytest.param("openvino", marks=pytest.mark.slow)], indirect=True)

GOLDEN = np.load(standin.GOLDEN / "networks.npz")
CLIP = {"RN50": "clip_RN50", "RN101": "clip_RN101", "ViT-B/32": "clip_ViT-B_32", "ViT-B/16": "clip_ViT-B_16"}
TEXTS = ("a photo of a dog", "playing the violin, indoors")


def assert_close(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], within: float) -> None:
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= within * np.abs(expected).max()


@in_both
@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet34",
        "resnet50",
        *(pytest.param(f"resnet{layers}", marks=pytest.mark.slow) for layers in (101, 152)),
    ],
)
def test_resnet(name: str, standin_file: Callable[[str, str], Path]) -> None:
    extractor = load("resnet", model_name=name, weights=standin_file("resnet", name), device="cpu")
    features, logits = extractor.streams[0].run(standin.network_input(name, (1, 3, 224, 224), -2, 2))
    assert logits is not None
    assert_close(features, GOLDEN[f"{name}/features"], 1e-4)
    assert_close(logits, GOLDEN[f"{name}/logits"], 1e-4)


@in_both
@pytest.mark.parametrize(
    ("feature", "settings", "checkpoint", "case", "shape", "low", "high"),
    [
        ("r21d", {}, "r2plus1d_18_16_kinetics", "r2plus1d_18_16_kinetics", (1, 3, 16, 112, 112), -2, 2),
        pytest.param(
            "r21d",
            {"model_name": "r2plus1d_34_32_ig65m_ft_kinetics"},
            "r2plus1d_34_32_ig65m_ft_kinetics",
            "r2plus1d_34_32_ig65m_ft_kinetics",
            (1, 3, 32, 112, 112),
            -2,
            2,
            marks=pytest.mark.slow,
        ),
        ("s3d", {}, "s3d", "s3d_16", (1, 3, 16, 224, 224), 0, 1),
        ("i3d", {"streams": "rgb"}, "i3d_rgb", "i3d_rgb_16", (1, 3, 16, 224, 224), -1, 1),
        ("i3d", {"streams": "rgb"}, "i3d_rgb", "i3d_rgb_10", (1, 3, 10, 224, 224), -1, 1),
        ("i3d", {"streams": "flow"}, "i3d_flow", "i3d_flow_16", (1, 2, 16, 224, 224), -1, 1),
        ("i3d", {"streams": "flow"}, "i3d_flow", "i3d_flow_10", (1, 2, 10, 224, 224), -1, 1),
    ],
)
def test_clip_networks(
    feature: str,
    settings: dict[str, str],
    checkpoint: str,
    case: str,
    shape: tuple[int, ...],
    low: float,
    high: float,
    standin_file: Callable[[str, str], Path],
) -> None:
    weights: Any = standin_file(feature, checkpoint)
    if checkpoint == "i3d_flow":
        weights = {"flow": weights, "raft": standin_file("raft", "raft")}
    extractor = load(feature, weights=weights, device="cpu", show_pred=True, **settings)
    (stream,) = extractor.streams
    features, logits = stream.run(standin.network_input(case, shape, low, high))
    assert logits is not None and stream.labels is not None and len(stream.labels) == 400
    assert_close(features, GOLDEN[f"{case}/features"], 1e-4)
    assert_close(logits, GOLDEN[f"{case}/logits"], 1e-4)
    assert tuple(features.shape[1:]) == stream.row_shape


FLOW = [("raft", (2, 3, 128, 160)), ("pwc", (2, 3, 96, 130))]


def oracle_flow(stream: Stream, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return the flow (B, 2, H, W) between the oracle's float frames, computed as for frames of a video."""
    first = standin.network_input(f"{stream.key}_a", shape, 0, 255)
    second = np.roll(first, (2, 3), (2, 3))
    codes = []
    for frames in (first, second):
        prepared = [stream.preprocess(np.ascontiguousarray(frame.transpose(1, 2, 0))) for frame in frames]
        codes.append(stream.run.encode(prepared)[0])
    flow, _ = stream.run([stream.collate(pair) for pair in zip(*codes, strict=True)])
    return stream.postprocess(flow, prepared[0].shape)


@in_both
@pytest.mark.parametrize(("name", "shape"), FLOW)
def test_flow(standin_file: Callable[[str, str], Path], name: str, shape: tuple[int, ...]) -> None:
    (stream,) = load(name, weights=standin_file(name, name), device="cpu").streams
    assert_close(oracle_flow(stream, shape), GOLDEN[f"{name}_{shape[2]}x{shape[3]}/flow"], 1e-4)


@pytest.mark.parametrize("mistake", MISTAKES_IN_FLOW)
@pytest.mark.parametrize(("name", "shape"), FLOW)
def test_a_mistake_in_flow_is_told(
    standin_file: Callable[[str, str], Path], name: str, shape: tuple[int, ...], mistake: Callable[[Stream], None]
) -> None:
    (stream,) = load(name, weights=standin_file(name, name), device="cpu").streams
    mistake(stream)
    with pytest.raises(AssertionError):
        assert_close(oracle_flow(stream, shape), GOLDEN[f"{name}_{shape[2]}x{shape[3]}/flow"], 1e-2)


def test_r21d_of_eight_frames_is_the_network_of_thirty_two(standin_file: Callable[[str, str], Path]) -> None:
    # The two published 34-layer networks differ only in weights and windows.
    name = "r2plus1d_34_8_ig65m_ft_kinetics"
    extractor = load("r21d", model_name=name, weights=standin_file("r21d", name), device="cpu")
    assert (extractor.streams[0].window.size, extractor.streams[0].window.step) == (8, 8)
    case = "r2plus1d_34_32_ig65m_ft_kinetics"
    features, _ = extractor.streams[0].run(standin.network_input(case, (1, 3, 32, 112, 112), -2, 2))
    assert_close(features, GOLDEN[f"{case}/features"], 1e-4)


@in_both
@pytest.mark.parametrize("name", CLIP)
def test_clip(name: str, standin_file: Callable[[str, str], Path]) -> None:
    case = CLIP[name]
    weights = standin_file("clip", case)
    image = standin.network_input(f"clip_{name}", (1, 3, 224, 224), -1.8, 2.1)

    extractor = load("clip", model_name=name, weights=weights, device="cpu", show_pred=True, pred_texts=TEXTS)
    features, logits = extractor.streams[0].run(image)
    assert_close(features, GOLDEN[f"{case}/image_features"], 1e-4)

    # Zero-shot logits from the reference embeddings: cosine × exp(logit_scale). logit_scale is 1 in stand-in weights.
    image_golden, text_golden = (unit(GOLDEN[f"{case}/{which}_features"]) for which in ("image", "text"))
    assert logits is not None
    assert_close(logits, np.exp(1.0) * image_golden @ text_golden.T, 1e-3)


def test_clip_tokens_are_openais() -> None:
    assert np.array_equal(
        open_clip.get_tokenizer(OPENAI["ViT-B/32"])(list(TEXTS)).numpy(), GOLDEN["clip_tokens/tokens"]
    )


def test_clip_custom_reads_the_architecture_from_the_shapes(standin_file: Callable[[str, str], Path]) -> None:
    extractor = load("clip", model_name="custom", weights=standin_file("clip", "clip_ViT-B_32"), device="cpu")
    features, _ = extractor.streams[0].run(standin.network_input("clip_ViT-B/32", (1, 3, 224, 224), -1.8, 2.1))
    assert_close(features, GOLDEN["clip_ViT-B_32/image_features"], 1e-4)


def test_only_weights_that_were_trained_with_quick_gelu_get_it(standin_file: Callable[[str, str], Path]) -> None:
    # For any tag, open_clip builds ViT-B-32 without QuickGELU and only warns. OpenAI weights need QuickGELU, but LAION
    # weights do not.
    weights = standin_file("clip", "clip_ViT-B_32")
    laion = load("clip", model_name="ViT-B-32/laion2b_s34b_b79k", weights=weights, device="cpu")
    features, _ = laion.streams[0].run(standin.network_input("clip_ViT-B/32", (1, 3, 224, 224), -1.8, 2.1))
    with pytest.raises(AssertionError):
        assert_close(features, GOLDEN["clip_ViT-B_32/image_features"], 1e-3)


def unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
