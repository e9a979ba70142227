"""A dry run predicts what an extraction returns."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import grey_levels, write_video
from video_features import SettingsError, load, plan
from video_features.extraction.frames import FrameSampler
from video_features.media import frames_of, open_source
from video_features.settings import FrameSettings


@pytest.mark.parametrize("settings", [{}, {"extraction_fps": 7.3}, {"extraction_fps": 60.0}, {"extraction_total": 9}])
@pytest.mark.parametrize(
    ("name", "codec", "fps", "start"),
    [
        ("a.mp4", "libx264", Fraction(25), 0),
        ("a.mp4", "libx264", Fraction(30000, 1001), 0),
        ("a.mkv", "ffv1", Fraction(25), 0),
        ("a.webm", "libvpx-vp9", Fraction(25), 0),
        ("a.avi", "mpeg4", Fraction(25), 0),
        ("late.mkv", "ffv1", Fraction(25), 100),
    ],
)
def test_the_number_of_frames_is_known_before_they_are_decoded(
    tmp_path: Path, name: str, codec: str, fps: Fraction, start: int, settings: dict[str, float]
) -> None:
    pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
    video = write_video(
        tmp_path / name, grey_levels(33), codec=codec, fps=fps, pix_fmt=pix_fmt, pts=lambda k: k + start
    )
    with open_source(video) as source:
        sampler = FrameSampler(FrameSettings(**settings), source.video)
        expected = sampler.expected()
        taken = [shown for frame in frames_of(source) for shown in sampler.take(frame)]
    assert expected == len(taken) == sampler.taken
    assert expected > 0


@pytest.mark.slow
def test_a_plan_is_what_the_extraction_gives(bikes: Path, standin_file: Callable[[str, str], Path]) -> None:
    features: dict[str, dict[str, Any]] = {
        "r21d": {"tail": "pad", "extraction_fps": 3},
        "resnet": {"model_name": "resnet18", "extraction_total": 4},
    }
    (planned,) = plan(bikes, list(features), **features)
    assert (planned.location, planned.seconds, planned.fps) == (str(bikes), 10, 25)
    assert planned.frames == {"r21d": 30, "resnet": 4}
    files = {"r21d": "r2plus1d_18_16_kinetics", "resnet": "resnet18"}
    for feature, settings in features.items():
        extractor = load(feature, weights=standin_file(feature, files[feature]), **settings)
        assert planned.shapes[feature] == {feature: extractor.extract(bikes).values[feature].shape}


@pytest.mark.parametrize(
    ("feature", "settings", "row"),
    [
        ("resnet", {"model_name": "resnet34"}, (512,)),
        ("resnet", {}, (2048,)),
        ("clip", {}, (512,)),
        ("clip", {"model_name": "RN50"}, (1024,)),
        ("clip", {"model_name": "ViT-L-14/laion2b_s32b_b82k"}, (768,)),
        # The row is the hidden layer, not the last convolution with 288 channels.
        ("timm", {"model_name": "mobilenetv3_small_050"}, (1024,)),
        ("timm", {"model_name": "vit_giant_patch14_dinov2"}, (1536,)),
        ("torchvision_video", {"model_name": "swin3d_b", "stack_size": 8}, (1024,)),
    ],
)
def test_row_shapes_without_weights(feature: str, settings: dict[str, object], row: tuple[int, ...]) -> None:
    (planned,) = plan(np.stack(list(grey_levels(8))), feature, source_fps=25, **settings)
    ((key, shape),) = planned.shapes[feature].items()
    assert key == feature and shape[1:] == row


def test_plans_are_lazy_refuse_wrong_settings_at_once_and_tell_what_would_fail(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown setting of r21d 'stack'"):
        plan("a.mp4", "r21d", stack=3)
    plans = plan([tmp_path / "a.mp4", tmp_path / "b.mp4"], "r21d")
    write_video(tmp_path / "a.mp4", grey_levels(15))  # `plan` looks for the file only now
    first, second = plans
    assert first.shapes == {} and first.frames == {"r21d": 15}
    assert "a.mp4: too short for r21d: 15 frames, and one row needs at least 16" in first.reasons["r21d"]
    assert second.seconds is None and second.reasons == {"r21d": f"{tmp_path / 'b.mp4'}: no such file"}
