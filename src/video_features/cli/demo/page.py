"""A page to draw on with matplotlib, measured in pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, SCALE = 800, 2  # the file has twice as many pixels as the page, for sharp screens
BACKGROUND = "#fcfbf9"


class Page:
    """A page to draw on, 800 pixels wide. Positions are in pixels from its upper left corner."""

    def __init__(self, height: float) -> None:
        from matplotlib.figure import Figure

        self.height = height
        self.figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=100 * SCALE, facecolor=BACKGROUND)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Add empty axes, without frame, ticks and background."""
        left, bottom = x / WIDTH, 1 - (y + height) / self.height
        axes = self.figure.add_axes((left, bottom, width / WIDTH, height / self.height))
        axes.set_axis_off()
        return axes

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        """Write text. x, y: of its start, or of the corner that `ha` and `va` name"""
        self.figure.text(x / WIDTH, 1 - y / self.height, text, **style)
