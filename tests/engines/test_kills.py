"""Random kills of workers lose no video and repeat no video."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import killing
from families import install
from video_features import extract, registry


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="forks workers for speed; tests/killing.py covers commands")
def test_workers_killed_at_random_moments_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in install(tmp_path / "site").items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry._modules.cache_clear()
    videos = killing.make_videos(tmp_path / "videos", 80)
    undisturbed, out, trace = tmp_path / "undisturbed", tmp_path / "out", tmp_path / "trace.txt"
    assert {outcome.status for outcome in extract(videos, "trouble", output_path=undisturbed, device="cpu")} == {"done"}
    monkeypatch.setenv("TROUBLE_SECONDS", str(killing.SECONDS_A_FRAME))
    monkeypatch.setenv("TROUBLE_TRACE", str(trace))
    killed = killing.under_fire(killing.Light, videos, out, trace, kills=20)
    monkeypatch.delenv("TROUBLE_TRACE")
    counts = killing.check(videos, out, undisturbed, trace, killed)
    registry._modules.cache_clear()
    assert counts["kills"] >= 13 and counts["begun again"] >= 6, "too few kills hit a video to trust this check"
