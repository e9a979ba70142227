"""Families of features that cost nothing, for tests of what comes before and around a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAMES = ("colour", "loudness", "trouble")


def install(site: Path) -> dict[str, str]:
    """Install them in a folder as pip would; the environment of a process that is to find them there, and in it this
    package."""
    about = site / "families-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: families\nVersion: 1.0\n")
    points = "".join(f"{name} = families.{name}\n" for name in NAMES)
    (about / "entry_points.txt").write_text(f"[video_features.families]\n{points}")
    path = [str(site), str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


def command(*words: object) -> list[str]:
    """The words of `video-features …`."""
    return [sys.executable, "-m", "video_features", *map(str, words)]
