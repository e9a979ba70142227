"""NaN and infinity in features: the feature fails, and the reason names the rows."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import grey_levels, write_video
from video_features import MediaError, extract, load, registry
from video_features.errors import kind_of
from video_features.extraction import Extractor, Stream
from video_features.settings import FrameSettings
from video_features.weights import Weights


class Ratio(nn.Module):
    """The brightness of a picture, and a number: 0, or the one that `values` has for the picture. Logits likewise."""

    def __init__(self, values: dict[int, float], logits: dict[int, float]) -> None:
        super().__init__()
        self.values, self.logits = values, logits

    def forward(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        picture = [round((float(level) - 16) / 6) for level in batch[:, 0]]
        values, logits = batch.clone(), torch.zeros(len(batch), 7)
        for row, k in enumerate(picture):
            values[row, 1] = self.values.get(k, 0.0)
            logits[row, 3] = self.logits.get(k, 0.0)
        return values, logits


class Wrong:
    """A family whose rows are finite, except those that `values` and `logits` name by their picture."""

    def __init__(self, dtype: type = np.float32, large: bool = False) -> None:
        self.values: dict[int, float] = {}
        self.logits: dict[int, float] = {}
        self.dtype, self.large = dtype, large

    def build(self, settings: FrameSettings, *, predict: bool) -> Extractor:
        stream = Stream(
            key="wrong",
            model="wrong",
            weights=Weights(path=Path(__file__)),
            build_network=lambda path: Ratio(self.values, self.logits),
            row_shape=(lambda height, width: (2,)) if self.large else (2,),
            preprocess=lambda rgb: np.array([rgb.mean(), 0], np.float32),
            dtype=self.dtype,
            labels=[f"class {k}" for k in range(7)] if predict else None,
        )
        return Extractor(feature="wrong", settings=settings, streams=[stream])


@dataclass(frozen=True, kw_only=True)
class Settings(FrameSettings):
    pass


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wrong]:
    family, module = Wrong(), ModuleType("wrong_family")
    Settings.__module__ = "wrong_family"
    module.__dict__.update(Settings=Settings, build=family.build, __file__=__file__)
    monkeypatch.setitem(sys.modules, "wrong_family", module)
    monkeypatch.setitem(registry._modules(), "wrong", "wrong_family")
    yield family
    Settings.__module__ = __name__


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "grey.mp4", grey_levels(30))


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_rows_that_are_not_finite_are_named(
    wrong: Wrong, video: Path, tmp_path: Path, value: float, batch_size: int
) -> None:
    wrong.values.update({3: value, 17: value})
    (outcome,) = extract(video, "wrong", batch_size=batch_size, output_path=tmp_path / "out", device="cpu")
    assert (outcome.status, outcome.error) == ("failed", "MediaError")
    expected = f"{video}: NaN or infinity in the values of wrong, rows 3, 17 (counted from 0), at 0.12, 0.68 s; wrong "
    assert outcome.reason.startswith(expected)
    assert not list((tmp_path / "out").rglob("*.npy"))


def test_after_five_rows_the_video_is_given_up(wrong: Wrong, video: Path) -> None:
    wrong.values.update(dict.fromkeys(range(2, 30), float("nan")))
    with pytest.raises(MediaError, match=r"rows 2, 3, 4, 5, 6 and perhaps more \(counted from 0\), at 0\.08, 0\.12, "):
        load("wrong", device="cpu").extract(video)


def test_the_other_features_and_videos_are_done(wrong: Wrong, video: Path, tmp_path: Path) -> None:
    wrong.values[29] = float("inf")
    names = {"wrong": {}, "timm": {"model_name": "tf_efficientnet_lite0"}}
    short = write_video(tmp_path / "short.mp4", grey_levels(4))
    outcomes = extract([video, short], list(names), **names, extraction_fps=25, device="cpu")
    assert [outcome.status for outcome in outcomes] == ["failed", "done", "done", "done"]


@pytest.mark.parametrize("logit", [float("nan"), float("inf")])
def test_predictions_that_are_not_finite_are_named(wrong: Wrong, video: Path, logit: float) -> None:
    wrong.logits[9] = logit
    (outcome,) = extract(video, "wrong", show_pred=True, device="cpu")
    assert outcome.status == "failed" and "row 9 (counted from 0), at 0.36 s" in outcome.reason
    (outcome,) = extract(video, "wrong", device="cpu")
    assert outcome.status == "done"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("value", "status"), [(65_504, "done"), (65_519, "done"), (65_520, "failed"), (-7e4, "failed")]
)
def test_values_too_large_for_float16(
    wrong: Wrong, video: Path, tmp_path: Path, large: bool, value: float, status: str
) -> None:
    wrong.dtype, wrong.large, wrong.values[5] = np.float16, large, value  # 65,520 is the first that rounds to infinity
    (outcome,) = extract(video, "wrong", output_path=tmp_path / "out", device="cpu")
    assert outcome.status == status, outcome.reason
    if status == "failed":
        assert (
            "row 5 (counted from 0), at 0.20 s; the values are too large for float16: use flow_dtype" in outcome.reason
        )


@pytest.mark.parametrize(
    ("precision", "hint"),
    [
        ("fp16", "they may be too large for precision=fp16: use precision=fp32 (--precision fp32)"),
        ("bf16", "they may come from the rounding of precision=bf16: use precision=fp32 (--precision fp32)"),
    ],
)
def test_a_precision_is_named_as_a_cause(wrong: Wrong, video: Path, precision: str, hint: str) -> None:
    wrong.values[4] = float("inf")
    with pytest.raises(MediaError, match=re.escape(f"row 4 (counted from 0), at 0.16 s; {hint}")):
        load("wrong", precision=precision, device="cpu").extract(video)


def test_failures_in_other_rows_are_of_one_kind() -> None:
    reasons = [
        "NaN or infinity in the values of a, rows 3, 17 (counted from 0), at 0.12, 0.68 s; check",
        "NaN or infinity in the values of a, rows 1, 2, 3 (counted from 0), at 1.12, 10.68, 12.00 s; check",
    ]
    assert len({kind_of(f"{path}: {reason}", path) for path, reason in zip("ab", reasons, strict=True)}) == 1
