"""What features of optical flow share: their settings, and windows of two frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SettingsError
from ..settings import FrameSettings, check_positive, setting, unknown
from ..timeline.windows import Window

if TYPE_CHECKING:
    from ..extraction import Resize

PAIRS = Window(size=2, step=1)  # each frame and the next one
DTYPES: dict[str, type[np.floating[Any]]] = {"float32": np.float32, "float16": np.float16}


@dataclass(frozen=True, kw_only=True)
class FlowSettings(FrameSettings):
    """What features of optical flow can be told. Their rows are N − 1 fields (2, H, W), x then y, in pixels."""

    side_size: int | None = setting(
        None, "resize frames until a side has so many pixels; by default they stay as they are", metavar="PIXELS"
    )
    resize_to_smaller_edge: bool = setting(
        True, "whether side_size is that of the smaller side, as by default, or of the larger one"
    )
    batch_size: int = setting(
        1,
        "pairs of frames per pass through the network; its memory grows with them and with the frames' size",
        metavar="N",
        changes_values=False,
    )
    flow_dtype: str = setting("float32", "float16 halves the files", metavar="float32|float16")
    preview: bool = setting(
        False, "also write a video to look at: each frame, and under it its flow in colours", changes_values=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "side_size")
        if self.flow_dtype not in DTYPES:
            raise SettingsError(unknown("flow_dtype", self.flow_dtype, DTYPES))

    @property
    def resize(self) -> Resize:
        """What is done to frames before flow is computed between them."""
        from ..extraction import Resize  # imports PyTorch, which the help does without

        return Resize(self.side_size, smaller=self.resize_to_smaller_edge)

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """Of the rows as they are kept."""
        return DTYPES[self.flow_dtype]
