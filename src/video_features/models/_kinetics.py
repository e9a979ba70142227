"""What networks that were trained on Kinetics share."""

from __future__ import annotations


def kinetics_400() -> list[str]:
    """The class names of Kinetics-400, as torchvision carries them with its video networks."""
    from torchvision.models.video import R3D_18_Weights

    return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
