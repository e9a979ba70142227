"""Names of videos that deceive, or that are too long for their outputs."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from conftest import grey_levels, write_video
from video_features import extract, status
from video_features.cli.main import cli
from video_features.errors import printable
from video_features.outputs.layout import NameLimits

SETTINGS = ["--model-name", "tf_efficientnet_lite0", "--device", "cpu"]
DECEPTIVE = "a\u202e4pm.\u2066b\u200bc\u00ad\ufeff"  # U+202E shows what follows from right to left
ESCAPED = "a\\u202e4pm.\\u2066b\\u200bc\\xad\\ufeff"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (DECEPTIVE, ESCAPED),
        ("a\n\x1b[31m\x7f\u0085\u2028\udcff", "a\\n\\x1b[31m\\x7f\\x85\\u2028\\udcff"),
        ("\u061c\u200e\u200f\u2060\U000e0001", "\\u061c\\u200e\\u200f\\u2060\\U000e0001"),
        ("photo\u200d.mp4 a\u200cb\u200d", "photo\\u200d.mp4 a\\u200cb\\u200d"),
        ("é\u200d\u200dé", "é\\u200d\\u200dé"),
        ("hidden \U000e0041", "hidden \\U000e0041"),
    ],
)
def test_what_hides_or_reorders_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown == printable(shown)


@pytest.mark.parametrize(
    "text",
    [
        "héé 日本 한국어 ไทย עברית العربية ١٢٣ Ελληνικά.mp4",
        "می\u200cخواهم.mp4",  # Persian, with a joiner that separates two forms
        "क्\u200dष.mp4",
        "👨\u200d👩\u200d👧 ❤️\u200d🔥 🏳️\u200d🌈 👍🏽 🇫🇷.mp4",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f.mp4",  # the flag of England
        unicodedata.normalize("NFD", "Zoë ñ.mp4"),
        "\u06dd \u0600",  # visible, though Unicode counts them as format characters
        "C:\\videos\\a.mp4",
    ],
)
def test_text_in_any_language_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.slow
def test_a_name_that_reorders_text_is_escaped_wherever_it_is_shown(tmp_path: Path) -> None:
    video = write_video(tmp_path / f"{DECEPTIVE}.mp4", grey_levels(3))
    damaged = tmp_path / f"{DECEPTIVE}2.mp4"
    damaged.write_bytes(b"no video")
    output = tmp_path / "out"
    (tmp_path / "list.csv").write_text(f"path,start\n{video},1\n")
    (listed := tmp_path / f"{DECEPTIVE}.csv").write_text("start\n1\n")
    for given in (
        ["extract", "timm", str(video), str(damaged), *SETTINGS, "--output-path", str(output)],
        ["extract", "timm", str(video), *SETTINGS, "--dry-run"],
        ["extract", "timm", "--file-with-video-paths", str(listed), *SETTINGS],
        ["extract", "timm", str(tmp_path), "--pattern", DECEPTIVE, *SETTINGS],
        ["status", str(output)],
        ["status", str(tmp_path / DECEPTIVE)],
    ):
        result = CliRunner().invoke(cli, given)
        assert not set(result.output) & set("\u202e\u2066\u200b\u00ad\ufeff"), given
        assert ESCAPED in result.output or given == ["status", str(output)], result.output
    saved = next(output.glob("timm/*/*_timm.npy"))
    assert saved.name == f"{DECEPTIVE}_timm.npy" and len(np.load(saved)) == 3


def test_a_name_too_long_for_the_outputs_fails_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / f"{'n' * 245}.mp4", grey_levels(2))
    settings = {"model_name": "tf_efficientnet_lite0", "device": "cpu", "output_path": tmp_path / "out"}
    monkeypatch.setattr("video_features.tasks.work.open_source", None)
    (failed,) = extract(video, "timm", **settings)
    # _end_timestamps_ms.npy has 22 bytes
    assert "the names of the outputs would be up to 267 bytes long, and the file system allows 255" in failed.reason
    (state,) = status(tmp_path / "out")
    assert (state.failed.total(), state.conflicting.total(), state.left) == (1, 0, 0)
    assert next(iter(state.failed)).startswith("the names of the outputs would be up to")


@pytest.mark.parametrize(
    ("limits", "what"), [(NameLimits(name=20), "names .* 25 bytes"), (NameLimits(path=60), r"paths .* \d+ bytes")]
)
def test_the_limits_of_the_file_system_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: NameLimits, what: str
) -> None:
    video = write_video(tmp_path / "abc.mp4", grey_levels(2))
    monkeypatch.setattr(NameLimits, "of", lambda root: limits)
    (failed,) = extract(video, "timm", model_name="tf_efficientnet_lite0", device="cpu", output_path=tmp_path / "out")
    assert failed.status == "failed"
    assert re.search(f"the {what} long, and the file system allows", failed.reason)


def test_an_empty_output_path_of_status() -> None:
    result = CliRunner().invoke(cli, ["status", ""])
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: output_path: an empty path; is a shell variable unset?\n",
    )
