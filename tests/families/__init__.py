"""Families of features without a network, for tests of everything except networks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NAMES = ("colour", "loudness", "trouble")


def install(site: Path) -> dict[str, str]:
    """Install the families in a folder, as pip would.

    Returns the environment for a process that uses the families and this package.
    """
    about = site / "families-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: families\nVersion: 1.0\n")
    points = "".join(f"{name} = families.{name}\n" for name in NAMES)
    (about / "entry_points.txt").write_text(f"[video_features.families]\n{points}")
    path = [str(site), str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


def command(*words: object) -> list[str]:
    """Return the command line of `video-features …`."""
    return [sys.executable, "-m", "video_features", *map(str, words)]
