"""Defines the settings and the window that all optical flow features share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import SettingsError
from ..extraction import Resize
from ..settings import Bounds, FrameSettings, setting, unknown
from ..timeline.windows import Window

FLOW_ROW = (
    "A frame and the next frame: the displacement of each pixel to the right (x) and down (y) between them, in pixels."
)
PAIRS = Window(size=2, step=1)  # each frame with the next frame
DTYPES: dict[str, type[np.floating[Any]]] = {"float32": np.float32, "float16": np.float16}


@dataclass(frozen=True, kw_only=True)
class FlowSettings(FrameSettings):
    """Settings of optical flow features. N frames give N − 1 rows (2, H, W): x and y displacements in pixels."""

    side_size: int | None = setting(
        None,
        "Resize frames so that one side has this length.  [default: no resizing]",
        metavar="PIXELS",
        bounds=Bounds(1, 8192, "8K video is 7680 pixels wide"),
    )
    resize_to_smaller_edge: bool = setting(
        True, "Apply side_size to the smaller side of the frame, or else to the larger side."
    )
    batch_size: int = setting(
        1,
        "Frame pairs per forward pass. Memory use grows with the batch size and with the frame size.",
        metavar="N",
        changes_values=False,
    )
    flow_dtype: str = setting(
        "float32", "Data type of the saved flow; float16 halves the file size.", metavar="float32|float16"
    )
    preview: bool = setting(
        False, "Also write a preview video that shows each frame above its flow in colours.", changes_values=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.flow_dtype not in DTYPES:
            raise SettingsError(unknown("flow_dtype", self.flow_dtype, DTYPES))

    @property
    def resize(self) -> Resize:
        """The resize that is applied to each frame before flow is computed."""
        return Resize(self.side_size, smaller=self.resize_to_smaller_edge)

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """The NumPy dtype of the rows that are saved or returned."""
        return DTYPES[self.flow_dtype]
