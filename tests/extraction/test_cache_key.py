"""The cache key of a converted network covers everything that changes the network's results."""

from __future__ import annotations

from pathlib import Path

import pytest

import video_features
from video_features import registry
from video_features.cache import code_files
from video_features.extraction.extractor import network_cache_key

PACKAGE = Path(video_features.__file__).parent


def test_it_covers_every_file_of_the_package_and_the_file_of_the_family(installed_families: None) -> None:
    files = code_files(registry.family("raft").__name__)  # type: ignore[attr-defined]
    assert set(files) == set(PACKAGE.rglob("*.py")) and len(files) > 90
    family = registry.family("colour")
    others = code_files(family.__name__)  # type: ignore[attr-defined]
    own = Path(str(family.__file__)).parent  # type: ignore[attr-defined]
    assert {*files, *own.glob("*.py")} == set(others), "also the modules beside it, which it may import"


@pytest.mark.parametrize(
    ("settings", "is_same"),
    [({"stack_size": 20}, False), ({"precision": "bf16"}, True), ({"batch_size": 4}, True), ({"tail": "pad"}, True)],
)
def test_settings_that_change_the_network_change_it(settings: dict[str, object], is_same: bool) -> None:
    cls = registry.family("r21d").Settings
    assert (network_cache_key(cls(**settings)) == network_cache_key(cls())) is is_same
