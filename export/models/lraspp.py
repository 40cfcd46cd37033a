"""LR-ASPP on MobileNetV3.

Howard et al., "Searching for MobileNetV3", ICCV 2019, https://arxiv.org/abs/1905.02244: the backbones are tables 1
and 2, the squeeze-and-excite block is section 5.3, the segmentation head is section 6.4 and figure 10. Where the
paper leaves a choice open we follow torchvision (`models/mobilenetv3.py`, `models/segmentation/lraspp.py`,
BSD-3-Clause), name for name, so that its checkpoints load unchanged:

    backbone.<0..16>.…         stem, inverted residual blocks, last convolution
    classifier.cbr / .scale    the two branches of the head over the stride-16 features
    classifier.low_classifier  1×1 over the stride-8 features
    classifier.high_classifier 1×1 over the merged branches
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from export.spec import CAMVID, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="lraspp", builder="lraspp", preprocess=Preprocess((360, 480)), classes=CAMVID,
        stride=8, align_corners=False, multiple=8,
        parameters=3_219_838, gmacs=2.079, counted_at=(520, 520),
        licence="BSD-3-Clause",
        paper="Searching for MobileNetV3, ICCV 2019, https://arxiv.org/abs/1905.02244",
        published=(
            Published("mIoU", 57.9, "COCO val2017 with VOC labels, 520×520, 21 classes", "torchvision"),
            Published("parameters", 3_221_538, "21 classes", "torchvision"),
            Published("GMAC", 2.086, "520×520, 21 classes", "torchvision"),
        ),
        weights={"torchvision": (
            "https://download.pytorch.org/models/lraspp_mobilenet_v3_large-d234d4ea.pth", "d234d4ea")},
        note="torchvision's weights are for 21 VOC classes; ours are for 11 CamVid classes",
    ),
    ModelSpec(
        name="lraspp-small", builder="lraspp_small", preprocess=Preprocess((360, 480)), classes=CAMVID,
        stride=8, align_corners=False, multiple=8,
        parameters=1_076_414, gmacs=0.665, counted_at=(520, 520),
        licence="BSD-3-Clause",
        paper="Searching for MobileNetV3, ICCV 2019, https://arxiv.org/abs/1905.02244",
    ),
)


@dataclass(frozen=True)
class Row:
    """One line of the paper's tables 1 and 2: an inverted residual block."""

    inputs: int
    kernel: int
    expanded: int
    outputs: int
    squeeze: bool
    hardswish: bool
    stride: int = 1
    dilation: int = 1


# The last stage keeps stride 16: its stride becomes dilation 2 (section 6.4; torchvision's `dilated=True`).
LARGE = (
    Row(16, 3, 16, 16, False, False),
    Row(16, 3, 64, 24, False, False, stride=2),
    Row(24, 3, 72, 24, False, False),
    Row(24, 5, 72, 40, True, False, stride=2),
    Row(40, 5, 120, 40, True, False),
    Row(40, 5, 120, 40, True, False),
    Row(40, 3, 240, 80, False, True, stride=2),
    Row(80, 3, 200, 80, False, True),
    Row(80, 3, 184, 80, False, True),
    Row(80, 3, 184, 80, False, True),
    Row(80, 3, 480, 112, True, True),
    Row(112, 3, 672, 112, True, True),
    Row(112, 5, 672, 160, True, True, dilation=2),
    Row(160, 5, 960, 160, True, True, dilation=2),
    Row(160, 5, 960, 160, True, True, dilation=2),
)
SMALL = (
    Row(16, 3, 16, 16, True, False, stride=2),
    Row(16, 3, 72, 24, False, False, stride=2),
    Row(24, 3, 88, 24, False, False),
    Row(24, 5, 96, 40, True, True, stride=2),
    Row(40, 5, 240, 40, True, True),
    Row(40, 5, 240, 40, True, True),
    Row(40, 5, 120, 48, True, True),
    Row(48, 5, 144, 48, True, True),
    Row(48, 5, 288, 96, True, True, dilation=2),
    Row(96, 5, 576, 96, True, True, dilation=2),
    Row(96, 5, 576, 96, True, True, dilation=2),
)


def _divisible(channels: float, by: int = 8) -> int:
    """The nearest multiple of `by`, at least `by`, and never more than 10 % below `channels`."""
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest + by if nearest < 0.9 * channels else nearest


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, where one is given, an activation; "same" padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, groups: int = 1,
                 activation: type[nn.Module] | None = None) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2 * dilation, dilation, groups, bias=False),
            nn.BatchNorm2d(outputs, eps=0.001, momentum=0.01),
        ]
        if activation is not None:
            layers.append(activation())
        super().__init__(*layers)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all channels' means; hard sigmoid, section 5.3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _divisible(channels // 4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        gate: Tensor = self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return x * gate


class InvertedResidual(nn.Module):
    """Expand 1×1, depthwise, squeeze-and-excite, project 1×1; a shortcut where the shape stays (figures 3 and 4)."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        activation = nn.Hardswish if row.hardswish else nn.ReLU
        layers: list[nn.Module] = []
        if row.expanded != row.inputs:
            layers.append(ConvNorm(row.inputs, row.expanded, 1, activation=activation))
        layers.append(ConvNorm(row.expanded, row.expanded, row.kernel, stride=row.stride, dilation=row.dilation,
                               groups=row.expanded, activation=activation))
        if row.squeeze:
            layers.append(SqueezeExcite(row.expanded))
        layers.append(ConvNorm(row.expanded, row.outputs, 1))
        self.block = nn.Sequential(*layers)
        self.shortcut = row.stride == 1 and row.inputs == row.outputs

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H / stride, W / stride]."""
        y: Tensor = self.block(x)
        return x + y if self.shortcut else y


class Head(nn.Module):
    """Lite R-ASPP (section 6.4, figure 10), with torchvision's global pooling in the gate."""

    def __init__(self, low: int, high: int, classes: int, inner: int = 128) -> None:
        super().__init__()
        self.cbr = nn.Sequential(nn.Conv2d(high, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU())
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(high, inner, 1, bias=False), nn.Sigmoid())
        self.low_classifier = nn.Conv2d(low, classes, 1)
        self.high_classifier = nn.Conv2d(inner, classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Features [N, low, H/8, W/8] and [N, high, H/16, W/16] → logits [N, classes, H/8, W/8]."""
        x = self.cbr(high) * self.scale(high)
        x = F.interpolate(x, size=low.shape[-2:], mode="bilinear", align_corners=False)
        y: Tensor = self.low_classifier(low) + self.high_classifier(x)
        return y


class LRASPP(nn.Module):
    """The whole network.

    Args:
        rows: the backbone's inverted residual blocks.
        low: index of the backbone layer whose stride-8 output goes to the head as well.
        classes: output channels.
    """

    def __init__(self, rows: Sequence[Row], low: int, classes: int) -> None:
        super().__init__()
        last = rows[-1].outputs
        self.backbone = nn.ModuleList([
            ConvNorm(3, rows[0].inputs, 3, stride=2, activation=nn.Hardswish),
            *(InvertedResidual(row) for row in rows),
            ConvNorm(last, 6 * last, 1, activation=nn.Hardswish),
        ])
        self.low = low
        self.classifier = Head(rows[low - 1].outputs, 6 * last, classes)
        for module in self.backbone.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Float RGB [N, 3, H, W], normalised by mean and std → logits [N, classes, ⌈H/8⌉, ⌈W/8⌉].

        Bilinear upsampling to the input's size (`align_corners=False`) is left to the caller; torchvision does it
        inside its `forward`.
        """
        low = x
        for index, layer in enumerate(self.backbone):
            x = layer(x)
            if index == self.low:
                low = x
        y: Tensor = self.classifier(low, x)
        return y


lraspp = partial(LRASPP, LARGE, 4)
lraspp_small = partial(LRASPP, SMALL, 2)
