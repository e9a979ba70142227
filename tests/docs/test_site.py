"""The site builds without a warning, and every feature has a page, which says what it promises to say."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from doc_examples import here, no_networks, parse_all, run_examples, videos

import video_features
from video_features import registry

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs" / "generator"))

from family_facts import FamilyFacts, of_picture  # noqa: E402
from family_pages import page  # noqa: E402
from generated import generated  # noqa: E402

from video_features.extraction.pictures import PictureTransform  # noqa: E402
from video_features.models import r21d  # noqa: E402

__all__ = ["here", "no_networks", "videos"]

FAMILIES = registry.installed()
# By hand: the shape of the values with the network of the examples, the input of the network, and the rows that
# bikes.mp4 (250 frames at 25 fps) gives with the default settings.
EXPECTED = {
    "resnet": ("(N, 2048)", "float32 (3, 224, 224)", 250),
    "timm": ("(N, 2048)", "float32 (3, 224, 224)", 250),
    "clip": ("(N, 512)", "float32 (3, 224, 224)", 250),
    "r21d": ("(N, 512)", "float32 (3, 16, 112, 112)", (250 - 16) // 16 + 1),
    "s3d": ("(N, 1024)", "float32 (3, 64, 224, 224)", (250 - 64) // 64 + 1),
    "i3d": ("(N, 1024)", "float32 (2, 64, 224, 224)", (250 - 65) // 64 + 1),
    "torchvision_video": ("(N, 512)", "float32 (3, 16, 112, 112)", (250 - 16) // 16 + 1),
    "raft": ("(N, 2, H, W)", "2 × uint8 (3, 272, 640)", 249),
    "pwc": ("(N, 2, H, W)", "2 × uint8 (3, 272, 640)", 249),
    "vggish": ("(N, 128)", "float32 (1, 96, 64)", None),  # bikes.mp4 has no sound
}


def page_of(name: str) -> str:
    content = generated()[f"features/{name}.md"]
    assert isinstance(content, str)
    return content


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    config.plugins.on_startup(command="build", dirty=False)
    build(config)  # raises Abort for a warning
    for name in FAMILIES:
        html = (tmp_path / "features" / name / "index.html").read_text(encoding="utf-8")
        assert all(f"<code>{field.name}</code>" in html for field in fields(registry.family(name).Settings))
    api = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    assert "Parameters:" in api and "Attributes:" in api, "lists in docstrings must become tables"
    for name in video_features.__all__:
        assert re.search(rf'id="video_features\.(\w+\.)*{name}"', api), name


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_feature_has_its_page(name: str) -> None:
    text, (shape, given, rows) = page_of(name), EXPECTED[name]
    assert all(f"`{field.name}`" in text for field in fields(registry.family(name).Settings))
    assert shape in text and given in text
    assert re.search(rf"`bikes.mp4` \| the defaults \| `\w+` \({rows},", text) or rows is None
    assert all(f"`{network}`" in text for network in FamilyFacts(name).networks)
    card = registry.card(name)
    assert card is not None and card.row in text
    for paper in card.papers:
        assert paper.bibtex in text and f"]({paper.url})" in text


@pytest.mark.parametrize("name", FAMILIES)
def test_the_papers_can_be_cited(name: str) -> None:
    card = registry.card(name)
    assert card is not None and card.papers
    for paper in card.papers:
        entry = paper.bibtex
        assert re.match(r"@(inproceedings|misc){\w+,\n", entry) and entry.count("{") == entry.count("}")
        assert all(author.count(", ") == 1 for author in paper.authors.split(" and "))
        if found := re.search(r"arxiv\.org/abs/(\d\d)\d\d\.", paper.url):
            assert 0 <= paper.year - 2000 - int(found[1]) <= 1, "published in the year of the preprint, or in the next"
    assert len({paper.key for paper in card.papers}) == len(card.papers)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_examples_of_a_page_run(name: str, here: Path, no_networks: None) -> None:
    text = page_of(name)
    parse_all(text)
    assert run_examples(name, text, here) == 2


def test_a_family_without_a_card_has_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "## Papers" in page(FamilyFacts("s3d"))
    monkeypatch.delattr("video_features.models.s3d.CARD")
    assert registry.card("s3d") is None
    text = page(FamilyFacts("s3d"))
    assert "# `s3d`: S3D" in text and "## Settings" in text and "## Papers" not in text


@pytest.mark.slow
def test_the_page_of_r21d_states_the_numbers_of_its_code() -> None:
    shown = [", ".join(f"{value:.6g}" for value in values.ravel()) for values in (r21d.MEAN, r21d.STD)]
    assert f"subtract the mean ({shown[0]}) and divide by the standard deviation ({shown[1]})" in page_of("r21d")


def test_a_transform_in_words() -> None:
    transform = PictureTransform(resize=(256,), crop=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert of_picture(transform) == (
        "Resize the smaller side to 256 (bilinear, with antialiasing). Take the central 224×224 pixels. "
        "Scale to 0 … 1, subtract the mean (0.5, 0.5, 0.5) and divide by the standard deviation (0.25, 0.25, 0.25)."
    )
    assert "Resize to 8×9, ignoring" in of_picture(PictureTransform(resize=(8, 9), interpolation=""))
