"""Draws one video: its shots, motion, labels, change, sound and similarity, along the same seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...media import RGB
from ...outputs.flow_image import flow_to_image
from .findings import CONFIDENT, Similarity, best_of_each
from .page import BACKGROUND, Page
from .timeline import Timeline
from .watch import LOUDNESS_SECONDS, SILENCE_DBFS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GUTTER = 104  # pixels for the names of the tracks
TITLE, CUTS, FILM, MOTION, CURVE, ALIKE, AXIS, SPACE = 36, 13, 70, 58, 28, 66, 20, 6  # heights in pixels
WHEEL = 26  # the key to the colours of motion, in pixels
INK, FAINT, LINE = "#24292f", "#656d76", "#d9d4ca"
CUT, LABEL, CHANGE, SOUND = "#cf222e", "#bc4c00", "#0e7490", "#6639ba"
SHADES = ("#f6f3ee", "#d5e0ea", "#8fb0d3", "#41709f", "#16304f")  # from unlike to alike
LARGE, MEDIUM, SMALL = 10.4, 8.0, 7.0  # sizes of type, in points; 1 point is 1.4 pixels of the page
LOUDEST_DBFS = -20.0  # the upper edge of the track


@dataclass(frozen=True)
class Tracks:
    """What the panels of one row show, so that their tracks are side by side."""

    cuts: bool
    sound: bool

    @property
    def height(self) -> float:
        curves = 3 if self.sound else 2
        return TITLE + CUTS * self.cuts + FILM + MOTION + curves * CURVE + ALIKE + (3 + curves) * SPACE + AXIS


@dataclass(frozen=True)
class Panel:
    """A video on a page. per_second: pixels for each second"""

    video: Timeline
    per_second: float

    @property
    def width(self) -> float:
        return self.video.watched.end_seconds * self.per_second

    def draw(self, page: Page, x: float, y: float, tracks: Tracks, *, names_tracks: bool) -> None:
        """Draw the panel. x, y: its upper left corner in pixels"""
        self._title(page, x, y)
        drawn = [
            (FILM, self._film, "shots", "TransNetV2"),
            (MOTION, self._motion, "motion", "vectors of\nthe encoder"),
            (CURVE, self._labels, "label", f"if {CONFIDENT:.0%} sure"),
            (CURVE, self._change, "change", "of brightness"),
            *([(CURVE, self._sound, "sound", "level")] if tracks.sound else []),
            (ALIKE, self._alike, "similarity", "of moments;\ndark is alike"),
        ]
        first = top = y + TITLE + CUTS * tracks.cuts
        for height, draw, name, remark in drawn:
            axes = page.axes(x, top, self.width, height)
            draw(axes, height)
            axes.set_xlim(0, self.video.watched.end_seconds)
            if names_tracks:
                middle = top + height / 2 - 5 * remark.count("\n")
                page.text(x - 10, middle, name, ha="right", va="bottom", size=MEDIUM, color=INK)
                page.text(x - 10, middle + 2, remark, ha="right", va="top", size=SMALL, color=FAINT)
            top += height + SPACE
        if names_tracks:
            wheel = page.axes(x - GUTTER, first + FILM + SPACE + (MOTION - WHEEL) / 2, WHEEL, WHEEL)
            wheel.imshow(colour_wheel(4 * WHEEL))
        self._seconds(page, x, top)
        self._cuts(page, x, first, top - SPACE)

    def _title(self, page: Page, x: float, y: float) -> None:
        watched, shots = self.video.watched, len(self.video.first_frames)
        width, height = watched.size
        details = [f"{width}×{height}", f"{watched.fps:.4g} fps", f"{watched.end_seconds:.1f} s"]
        details += [f"{shots} shots" if shots > 1 else "1 shot", *(["no sound"] if watched.loudness is None else [])]
        page.text(x, y, self.video.name, va="top", size=LARGE, color=INK, weight="bold")
        page.text(x, y + 18, " · ".join(details), va="top", size=SMALL, color=FAINT)

    def _film(self, axes: Axes, height: float) -> None:
        pictures = [self.video.watched.thumbnails[tile.frame] for tile in self.video.tiles]
        self._show(axes, height, pictures)

    def _motion(self, axes: Axes, height: float) -> None:
        pictures = [flow_to_image(tile.motion) for tile in self.video.tiles]
        self._show(axes, height, pictures, interpolation="nearest")

    def _show(self, axes: Axes, height: float, pictures: list[RGB], **style: Any) -> None:
        """Show a picture for each tile, cropped to the tile."""
        gap = 1 / self.per_second
        for tile, picture in zip(self.video.tiles, pictures, strict=True):
            start, end = tile.start_seconds, tile.end_seconds
            cropped = _cropped(picture, (end - start) * self.per_second / height)
            axes.imshow(cropped, extent=(start, end - gap, 0, 1), aspect="auto", **style)

    def _labels(self, axes: Axes, height: float) -> None:
        from matplotlib.patheffects import withStroke

        probabilities, starts = self.video.probabilities, self.video.watched.starts
        axes.set_ylim(0, 1)
        if probabilities is None:
            _remark(axes, "animation: the network learned from photographs")
            return
        axes.fill_between(starts, probabilities, step="post", color=LINE, linewidth=0)
        sure = np.where(probabilities >= CONFIDENT, probabilities, 0)
        axes.fill_between(starts, sure, step="post", color=LABEL, linewidth=0)
        axes.axhline(CONFIDENT, color=FAINT, linewidth=0.4, linestyle=(0, (4, 3)))
        best = best_of_each(self.video.labels)
        for label in best:
            end = max(other.end_seconds for other in self.video.labels if other.name == label.name)
            text = axes.text(end + 4 / self.per_second, 0.45, f"{label.name} {label.probability:.0%}")
            text.set(size=MEDIUM, color=LABEL, weight="bold", va="center")
            text.set_path_effects([withStroke(linewidth=2.5, foreground=BACKGROUND)])
        if not best:
            _remark(axes, "nothing confident")

    def _change(self, axes: Axes, height: float) -> None:
        change = self.video.watched.change()
        change[self.video.first_frames] = np.nan  # a cut changes everything
        axes.set_ylim(0, max(1.0, float(np.nanmax(change))))
        _curve(axes, self.video.watched.starts, change, CHANGE)

    def _sound(self, axes: Axes, height: float) -> None:
        loudness = self.video.watched.loudness
        axes.set_ylim(SILENCE_DBFS, LOUDEST_DBFS)
        if loudness is None:
            _remark(axes, "no sound")
        else:
            _curve(axes, np.arange(len(loudness)) * LOUDNESS_SECONDS, loudness, SOUND, SILENCE_DBFS)

    def _alike(self, axes: Axes, height: float) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        alike, watched = self.video.alike, self.video.watched
        apart = 2 * height / self.per_second  # at the lower edge; the lines to two moments then meet at right angles
        picture = pairs_by_distance(alike, watched.starts, watched.end_seconds, apart, round(2 * height))
        shades = LinearSegmentedColormap.from_list("alike", SHADES)
        extent = (0, watched.end_seconds, apart, 0)
        axes.imshow(picture, extent=extent, aspect="auto", cmap=shades, vmin=float(alike.min()), vmax=1)

    def _seconds(self, page: Page, x: float, y: float) -> None:
        for second in range(int(self.video.watched.end_seconds) + 1):
            place = x + second * self.per_second
            text, anchor = (str(second), "center") if second else ("0 s", "left")
            page.text(place, y, text, ha=anchor, va="top", size=SMALL, color=FAINT)

    def _cuts(self, page: Page, x: float, top: float, bottom: float) -> None:
        axes = page.axes(x, top - 3, self.width, bottom - top + 3)
        axes.set(xlim=(0, self.video.watched.end_seconds), ylim=(0, 1))
        axes.vlines(self.video.cut_seconds, 0, 1, color=CUT, linewidth=0.8)
        for seconds in self.video.cut_seconds:
            place = x + seconds * self.per_second
            page.text(place, top - 4, f"{seconds:.2f}", ha="center", va="bottom", size=SMALL, color=CUT)


def _curve(
    axes: Axes, seconds: npt.NDArray[Any], values: npt.NDArray[np.float64], colour: str, floor: float = 0
) -> None:
    axes.fill_between(seconds, floor, values, color=colour, alpha=0.25, linewidth=0)
    axes.plot(seconds, values, color=colour, linewidth=0.8)


def _remark(axes: Axes, text: str) -> None:
    axes.text(0, 0.5, text, size=SMALL, color=FAINT, va="center", transform=axes.transAxes)


def _cropped(picture: RGB, proportion: float) -> RGB:
    """Return the middle of a picture (H, W, 3). proportion: of its width to its height"""
    height, width = picture.shape[:2]
    if width > height * proportion:
        kept = max(1, round(height * proportion))
        return picture[:, (width - kept) // 2 :][:, :kept]
    kept = max(1, round(width / proportion))
    return picture[(height - kept) // 2 :][:kept]


def colour_wheel(size: int) -> npt.NDArray[np.uint8]:
    """Return the key to the colours of motion, uint8 (size, size, 4), RGBA: the colour at the right is motion to it."""
    y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) / size * 2 - 1
    inside = np.hypot(x, y) <= 1
    colours = flow_to_image(np.where(inside, np.stack([x, y]), 0))
    return np.dstack([colours, inside.astype(np.uint8) * 255])


def pairs_by_distance(
    alike: Similarity, starts: npt.NDArray[np.float64], end_seconds: float, apart_seconds: float, rows: int
) -> Similarity:
    """Turn the similarities of all pairs of moments by 45°, so that they lie along the seconds of the video.

    alike: (T, T). starts: float64 (T,), seconds. apart_seconds: how far two moments are apart in the last row
    Returns float64 (rows, 4 T): in each column the pairs around one moment, the closest ones first. NaN where one of
    the two is outside the video.
    """
    columns = 4 * len(starts)
    middle = (np.arange(columns) + 0.5) / columns * end_seconds
    distance = (np.arange(rows)[:, None] + 0.5) / rows * apart_seconds
    first, second = middle - distance / 2, middle + distance / 2
    at_first, at_second = (np.searchsorted(starts, seconds, side="right") - 1 for seconds in (first, second))
    return np.where((first >= 0) & (second < end_seconds), alike[at_first, at_second], np.nan)
