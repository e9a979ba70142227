"""Provides the class names of Kinetics-400."""

from __future__ import annotations

from ..weights import remembered


@remembered("torchvision")
def kinetics_400() -> list[str]:
    """Return the 400 class names of Kinetics-400, from the metadata of torchvision's video networks."""
    from torchvision.models.video import R3D_18_Weights

    return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
