"""The Python API: extract, load, list_models; settings; predictions; times of rows."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

import standin
import video_features
from conftest import Terminal, grey_levels, write_video
from video_features import Features, MediaError, SettingsError, extract, list_models, load, registry
from video_features.media import frames_of, open_source
from video_features.models import clip as clip_family
from video_features.networks import clip as clip_networks
from video_features.networks import timm as timm_networks
from video_features.settings.parse import coerce

LITE0 = {"model_name": "tf_efficientnet_lite0", "device": "cpu"}


def test_everything_public_is_there() -> None:
    assert all(getattr(video_features, name) is not None for name in video_features.__all__)
    assert video_features.__version__ == importlib.metadata.version("video_features")


def test_features_are_a_list_or_joined_by_commas() -> None:
    with pytest.raises(SettingsError, match="timm needs a model_name"):
        extract("a.mp4", "timm, resnet")
    with pytest.raises(SettingsError, match="unknown feature 'clpi': did you mean clip"):
        extract("a.mp4", ["timm", "clpi"])


def test_what_is_no_video_is_told() -> None:
    extractor = load("timm", **LITE0)
    for given in ([1, 2], torch.zeros(2, 4, 4, 3, dtype=torch.uint8)):
        with pytest.raises(MediaError, match=r"expected a path, a URL or frames as a NumPy array, found (list|Tensor)"):
            extractor.extract(given)  # type: ignore[arg-type]
    assert "lambda" not in repr(extractor)


def test_extract_is_lazy_and_in_order(tmp_path: Path) -> None:
    first, missing, second = (tmp_path / f"{name}.mp4" for name in ("first", "missing", "second"))
    write_video(first, grey_levels(3))
    outcomes = extract([first, missing, second], "timm", **LITE0)
    write_video(second, grey_levels(2))  # before `extract` looks for the file
    outcome = next(outcomes)
    assert (outcome.location, outcome.feature, outcome.status) == (str(first), "timm", "done")
    assert outcome.features is not None and outcome.features.values["timm"].shape == (3, 1280)
    # `extract` notices the missing video early but reports the outcomes in order.
    assert [(outcome.location, outcome.status) for outcome in outcomes] == [
        (str(missing), "failed"),
        (str(second), "done"),
    ]


def test_extract_refuses_wrong_settings_at_once() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting of clip 'modle_name': did you mean model_name"):
        extract("a.mp4", "clip", modle_name="RN50")
    with pytest.raises(SettingsError, match="unknown feature 'clp': did you mean clip"):
        extract("a.mp4", "clp")
    with pytest.raises(SettingsError, match=r"on_extraction=save_numpy needs an output_path"):
        extract("a.mp4", "timm", on_extraction="save_numpy", **LITE0)


def test_an_array_gives_the_same_rows_as_the_file_it_was_read_from(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", grey_levels(7))
    with open_source(video) as source:
        frames = np.stack([frame.rgb for frame in frames_of(source)])
    extractor = load("timm", **LITE0)
    from_file, from_array = extractor.extract(video), extractor.extract(frames, source_fps=25)
    assert np.array_equal(from_file.values["timm"], from_array.values["timm"])
    assert np.array_equal(from_file.timestamps_ms, from_array.timestamps_ms)
    assert np.array_equal(from_file.end_timestamps_ms, from_array.end_timestamps_ms)


@pytest.mark.slow
def test_arrays_have_names() -> None:
    rgb = np.stack(list(grey_levels(2)))
    settings = {**LITE0, "source_fps": 5}
    assert [outcome.location for outcome in extract(rgb, "timm", **settings)] == ["array"]
    assert [outcome.location for outcome in extract([rgb, rgb], "timm", **settings)] == ["array_0", "array_1"]
    assert [outcome.location for outcome in extract({"clip a": rgb, "b": rgb}, "timm", **settings)] == ["clip a", "b"]


def test_load_refuses_the_settings_of_a_run() -> None:
    with pytest.raises(SettingsError, match=r"load does not take output_path: give source_fps to .*, and other"):
        load("timm", output_path="out", **LITE0)


@pytest.mark.usefixtures("installed_families")
@pytest.mark.parametrize(("name", "shown"), [("raw.h264", "raw.h264: 0."), ("a.mp4", " of 0.5 s")])
def test_a_terminal_shows_a_bar_also_for_a_video_that_does_not_say_how_long_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    video = write_video(tmp_path / name, grey_levels(12))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("video_features.runs.progress.Bar.first_seconds", 0.0)
    monkeypatch.setattr("video_features.runs.progress.Bar.every_seconds", 0.0)
    (outcome,) = extract(video, "colour", progress=True, device="cpu")
    assert outcome.status == "done"
    assert re.search(rf"\rCPU \(\d+ cores?\): .*\] {name}: ", terminal.getvalue()) and shown in terminal.getvalue()


def test_coca_embeddings_are_not_normalised_either() -> None:
    class CoCa(torch.nn.Module):
        def encode_image(self, images: torch.Tensor, normalize: bool = True) -> torch.Tensor:
            return torch.nn.functional.normalize(images, dim=-1) if normalize else images

    embeddings = clip_networks.ImageEncoder(CoCa())(torch.full((1, 4), 3.0))
    assert embeddings.tolist() == [[3.0] * 4]


def test_a_text_encoder_of_another_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"roberta-ViT-B-32/laion2b_s12b_b32k needs an extra: pip inst"):
        load("clip", model_name="roberta-ViT-B-32/laion2b_s12b_b32k", weights="w.pth")


def test_the_batch_size_does_not_change_the_rows(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", grey_levels(7))
    single, batched = (load("timm", batch_size=size, **LITE0).extract(video) for size in (1, 5))
    assert np.allclose(single.values["timm"], batched.values["timm"], rtol=0, atol=1e-4)
    assert np.array_equal(single.start_seconds, batched.start_seconds)


def test_variable_rate_gives_true_times_and_a_rate_gives_ticks(tmp_path: Path) -> None:
    times = [0, 40, 100, 700, 710, 2000]
    video = write_video(tmp_path / "v.mkv", grey_levels(6), fps=Fraction(1000), pts=times.__getitem__)
    every = load("timm", **LITE0).extract(video)
    assert every.timestamps_ms.tolist() == times
    assert every.end_timestamps_ms[:-1].tolist() == times[1:]
    ticks = load("timm", extraction_fps=2, **LITE0).extract(video)
    assert ticks.timestamps_ms.tolist() == [0, 500, 1000, 1500]
    assert ticks.end_timestamps_ms.tolist() == [500, 1000, 1500, 2000]
    # At 2 fps the frames at 0.1 s, 0.71 s, 0.71 s and 0.71 s are shown (FFmpeg rounds 0.7 s and 0.71 s to tick 1).
    assert np.allclose(ticks.values["timm"], every.values["timm"][[2, 4, 4, 4]], rtol=0, atol=1e-4)


def test_extraction_total(bikes: Path) -> None:
    features = load("timm", extraction_total=3, **LITE0).extract(bikes)
    assert features.fps == pytest.approx(0.3)
    assert np.allclose(features.start_seconds, [0, 10 / 3, 20 / 3])


@pytest.mark.slow
def test_several_features_decode_each_video_once(
    tmp_path: Path, standin_file: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from video_features.media.file import MediaFile

    decodings: list[str] = []
    samples = MediaFile.samples
    monkeypatch.setattr(
        MediaFile, "samples", lambda self, *given: decodings.append(self.location) or samples(self, *given)
    )
    video = write_video(tmp_path / "a.mp4", grey_levels(10))
    settings: dict[str, Any] = {
        "timm": {"model_name": "tf_efficientnet_lite0", "extraction_fps": 5},
        "resnet": {"model_name": "resnet18", "weights": standin_file("resnet", "resnet18")},
    }
    together = {outcome.feature: outcome.features for outcome in extract(video, ["timm", "resnet"], **settings)}
    assert decodings == [str(video)]
    for feature, own in settings.items():
        (alone,) = extract(video, feature, **own)
        found = together[feature]
        assert found is not None and alone.features is not None
        assert np.array_equal(found.values[feature], alone.features.values[feature])
        assert np.array_equal(found.start_seconds, alone.features.start_seconds)


def test_features_refuse_lengths_that_differ() -> None:
    with pytest.raises(ValueError, match="'clip': 2, 'start_seconds': 3"):
        Features({"clip": np.zeros((2, 4), np.float32)}, np.zeros(3), np.zeros(3), 25.0)


def test_predictions_of_real_weights_on_a_real_video(bikes: Path) -> None:
    features = load("timm", show_pred=True, extraction_fps=1, **LITE0).extract(bikes)
    assert features.predictions is not None and len(features.predictions["timm"]) == 10
    seen = {entry.label.split(",")[0] for row in features.predictions["timm"] for entry in row.classes}
    assert {"unicycle", "mountain bike"} <= seen
    for k, row in enumerate(features.predictions["timm"]):
        assert (row.start_seconds, row.end_seconds) == (k, k + 1)
        logits = [entry.logit for entry in row.classes]
        assert len(logits) == 5 and logits == sorted(logits, reverse=True)
        assert 0 < sum(entry.probability for entry in row.classes) <= 1


def test_probabilities_are_a_softmax_over_all_classes(standin_file: Callable[[str, str], Path]) -> None:
    pictures = np.stack(list(grey_levels(3)))
    extractor = load("resnet", model_name="resnet18", weights=standin_file("resnet", "resnet18"), show_pred=True)
    features = extractor.extract(pictures, source_fps=1)
    labels = extractor.streams[0].labels
    state = standin.state_dict("resnet", "resnet18")
    logits = features.values["resnet"] @ state["fc.weight"].numpy().T + state["fc.bias"].numpy()
    exponentials = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(np.float64))
    assert features.predictions is not None
    for k, row in enumerate(features.predictions["resnet"]):
        best = np.argsort(-logits[k])[:5]
        assert [entry.label for entry in row.classes] == [labels[index] for index in best]  # type: ignore[index]
        expected = exponentials[k, best] / exponentials[k].sum()
        assert np.allclose([entry.probability for entry in row.classes], expected, atol=1e-4)


@pytest.mark.slow
def test_clip_chooses_among_texts_by_default_kinetics_400(standin_file: Callable[[str, str], Path]) -> None:
    texts = clip_family._texts(None)
    assert len(texts) == 400 and texts["playing violin"] == "a photo of playing violin"
    weights = standin_file("clip", "clip_ViT-B_32")
    extractor = load("clip", weights=weights, show_pred=True, pred_texts="[a dog, a cat, a violin]")
    features = extractor.extract(np.stack(list(grey_levels(2))), source_fps=1)
    assert features.predictions is not None
    assert {entry.label for entry in features.predictions["clip"][0].classes} == {"a dog", "a cat", "a violin"}
    assert sum(entry.probability for entry in features.predictions["clip"][0].classes) == pytest.approx(1)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "mobilenetv3_small_050", "convnext_atto"])
def test_timm_logits_are_those_of_the_whole_model(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    batch = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        features, logits = timm_networks.split(model, predict=True).eval()(batch)
        assert torch.allclose(logits, model(batch), atol=1e-5) and logits.std() > 0
        model.reset_classifier(0)
        assert torch.allclose(features, model(batch), atol=1e-5) and features.std() > 0


def test_labels_follow_the_pretraining_tag() -> None:
    for name, classes, expected in [
        ("vit_tiny_patch16_224.augreg_in21k", 21843, "unicycle"),
        ("resnet18.a1_in1k", 1000, "mountain bike"),
    ]:
        model = timm.create_model(name, pretrained=False)
        labels = timm_networks.labels(model)
        assert len(labels) == classes and any(expected in label for label in labels)
    name = "vit_base_patch16_siglip_224.webli"
    with pytest.raises(SettingsError, match=f"{name} has no classifier, so there is nothing to predict"):
        load("timm", model_name=name, show_pred=True)


def test_list_models() -> None:
    everything = list_models()
    assert isinstance(everything, dict) and set(everything) == set(registry.names())
    assert set(timm.list_pretrained()) | set(timm.list_models()) == set(list_models("timm"))


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (int, "16", 16),
        (int | None, "null", None),
        (float | None, "30000/1001", 30000 / 1001),
        (float | None, 5, 5.0),
        (bool, "true", True),
        (bool, False, False),
        (tuple[str, ...] | None, "[a dog, a cat]", ("a dog", "a cat")),
        (tuple[str, ...] | None, ["a dog"], ("a dog",)),
        (tuple[str, ...] | None, "a dog, running", ("a dog, running",)),
        (Path | None, "a/b.pth", Path("a/b.pth")),
    ],
)
def test_settings_from_words(annotation: Any, given: Any, expected: Any) -> None:
    assert coerce("x", given, annotation) == expected


@pytest.mark.parametrize(
    ("annotation", "given", "message"),
    [
        (int, "1.5", "x must be a whole number, got '1.5'"),
        (int, True, "x must be a whole number, got True"),
        (float | None, "fast", "x must be a number, got 'fast'"),
        (bool, "maybe", "x must be true or false, got 'maybe'"),
        (tuple[str, ...] | None, "[]", "x must be a list, such as"),
        (int, None, "x needs a value"),
    ],
)
def test_settings_that_cannot_be(annotation: Any, given: Any, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        coerce("x", given, annotation)
    assert message in str(error.value)
