"""Warping by a flow field, shared by SFNet and AlignSeg.

Written so that `torch.onnx` turns it into one GridSample (opset 16 to 18: NVIDIA/TensorRT#4646 is about 20) whose grid
is a constant plus the scaled flow.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(x: Tensor, flow: Tensor, norm: tuple[int, int], align_corners: bool) -> Tensor:
    """Sample `x` bilinearly where the flow points; outside there are zeros.

    Args:
        x: [N, C, h, w].
        flow: [N, 2, H, W], horizontal offset first, in units of `norm`: an offset of `norm` is half the map.
        norm: (width, height) that the offsets are divided by.
        align_corners: whether -1 and 1 are the centres of the corner cells (True) or the map's outer edges.

    Returns:
        [N, C, H, W]. The undisturbed grid runs from -1 to 1 in both conventions, as both references have it; with
        `align_corners=False` a flow of zero is therefore not the identity.
    """
    height, width = flow.shape[2:]
    rows = torch.linspace(-1.0, 1.0, height, device=x.device, dtype=x.dtype)
    columns = torch.linspace(-1.0, 1.0, width, device=x.device, dtype=x.dtype)
    grid = torch.stack((columns.expand(height, width), rows[:, None].expand(height, width)), 2)
    scale = torch.tensor(norm, device=x.device, dtype=x.dtype)
    return F.grid_sample(x, grid + flow.permute(0, 2, 3, 1) / scale, mode="bilinear", padding_mode="zeros",
                         align_corners=align_corners)
