"""Draws what the demo found: a panel for each video, and in it the tracks of the video along the same seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import WriteError
from .page import WIDTH, Page
from .panel import GUTTER, Panel, Tracks
from .timeline import Timeline

LEFT, RIGHT, TOP, BOTTOM, BETWEEN, GAP = 14 + GUTTER, 20, 14, 4, 14, 24


def draw(videos: Sequence[Timeline], path: Path) -> None:
    """Draw the videos and save the picture as PNG, 1600 pixels wide. Raises WriteError if it cannot be written."""
    per_second = (WIDTH - LEFT - RIGHT) / max(video.watched.end_seconds for video in videos)
    rows = [[Panel(video, per_second) for video in row] for row in _rows(videos, per_second)]
    tracks = [_tracks(row) for row in rows]
    page = Page(TOP + sum(each.height for each in tracks) + BETWEEN * (len(rows) - 1) + BOTTOM)
    y = float(TOP)
    for row, shown in zip(rows, tracks, strict=True):
        x = float(LEFT)
        for panel in row:
            panel.draw(page, x, y, shown, names_tracks=panel is row[0])
            x += panel.width + GAP
        y += shown.height + BETWEEN
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        page.figure.savefig(path)
    except OSError as error:
        raise WriteError(f"{path}: the picture cannot be written ({error.strerror or error})") from error


def _rows(videos: Sequence[Timeline], per_second: float) -> list[list[Timeline]]:
    """Put as many videos side by side as fit."""
    rows: list[list[Timeline]] = []
    right = float("inf")
    for video in videos:
        width = video.watched.end_seconds * per_second
        if right + GAP + width > WIDTH - RIGHT:
            rows.append([])
            right = LEFT - GAP
        rows[-1].append(video)
        right += GAP + width
    return rows


def _tracks(row: Sequence[Panel]) -> Tracks:
    return Tracks(
        cuts=any(panel.video.cut_seconds for panel in row),
        sound=any(panel.video.watched.loudness is not None for panel in row),
    )
