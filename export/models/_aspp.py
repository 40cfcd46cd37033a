"""Atrous spatial pyramid pooling of DeepLabV3 and V3+, in torchvision's layout, and the auxiliary head.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", §3.3 (https://arxiv.org/abs/1706.05587).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 256

Convolution = Callable[[int, int, int], nn.Sequential]
"""(input channels, output channels, rate) → 3x3 convolution, norm, ReLU, size kept."""


def pointwise(inputs: int, outputs: int) -> nn.Sequential:
    """1x1 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def atrous(inputs: int, outputs: int, rate: int) -> nn.Sequential:
    """3x3 convolution at `rate`, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, rate, rate, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def separable(inputs: int, outputs: int, rate: int, eps: float = 1e-5) -> nn.Sequential:
    """3x3 depthwise at `rate`, then 1x1, each with batch norm and ReLU (DeepLabV3+ §3.1, as in Google's code)."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, 1, rate, rate, groups=inputs, bias=False), nn.BatchNorm2d(inputs, eps), nn.ReLU(),
        nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs, eps), nn.ReLU())


class ImagePooling(nn.Sequential):
    """The image-level branch: global average, 1x1 convolution, spread over the whole map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), *pointwise(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H, W], one vector everywhere."""
        # Bilinear interpolation of a single cell, as the references write it, is that cell everywhere.
        height, width = x.shape[2:]
        for layer in self:
            x = layer(x)
        return x.expand(-1, -1, height, width)


class ASPP(nn.Module):
    """1x1, three atrous convolutions and image pooling, concatenated and projected to 256 channels.

    Args:
        inputs: channels of the backbone's last map.
        rates: (6, 12, 18) at output stride 16, doubled at 8.
        convolution: `atrous`, or `separable` as in V3+.
        dropout: before the classifier, in training only.
    """

    def __init__(self, inputs: int, rates: Sequence[int], convolution: Convolution = atrous,
                 dropout: float = 0.5) -> None:
        super().__init__()
        self.convs = nn.ModuleList([pointwise(inputs, CHANNELS),
                                    *(convolution(inputs, CHANNELS, rate) for rate in rates),
                                    ImagePooling(inputs, CHANNELS)])
        self.project = nn.Sequential(*pointwise(len(self.convs) * CHANNELS, CHANNELS), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, 256, H, W]."""
        y: Tensor = self.project(torch.cat([branch(x) for branch in self.convs], 1))
        return y


def rates(output_stride: int) -> tuple[int, int, int]:
    """The rates of §3.3: 6, 12, 18 at output stride 16, doubled at 8."""
    return (6, 12, 18) if output_stride == 16 else (12, 24, 36)


def auxiliary(inputs: int, classes: int) -> nn.Sequential:
    """The FCN head that torchvision trains beside the main one; never exported."""
    return nn.Sequential(nn.Conv2d(inputs, inputs // 4, 3, 1, 1, bias=False), nn.BatchNorm2d(inputs // 4), nn.ReLU(),
                         nn.Dropout(0.1), nn.Conv2d(inputs // 4, classes, 1))


def resize(x: Tensor, partner: Tensor, align_corners: bool) -> Tensor:
    """Bilinear, to the height and width of `partner`."""
    return F.interpolate(x, size=partner.shape[2:], mode="bilinear", align_corners=align_corners)
