"""What the flow networks do to the sizes of frames and to the scale of flow, and families undo. Without PyTorch."""

from __future__ import annotations

RAFT_STRIDE = 8  # of RAFT's feature maps, in pixels of the frame
PWC_MULTIPLE = 64  # PWC-Net resizes images to multiples of 64, so that all six pyramid levels have whole sizes
PWC_FLOW_SCALE = 20.0  # PWC-Net was trained on flow divided by 20


def raft_padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Return the padding (left, right, top, bottom) in pixels that makes both sides multiples of 8.

    An odd pixel goes to the right or bottom.
    """
    horizontal, vertical = -width % RAFT_STRIDE, -height % RAFT_STRIDE
    return horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2


def pwc_side(side: int) -> int:
    """Return the side to which PWC-Net resizes a side: the next multiple of 64."""
    return -(-side // PWC_MULTIPLE) * PWC_MULTIPLE
