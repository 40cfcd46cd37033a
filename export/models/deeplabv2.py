"""DeepLab v2: ResNet-101 and four atrous convolutions in parallel, summed.

Chen, Papandreou, Kokkinos, Murphy, Yuille: "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs", TPAMI 2017 (https://arxiv.org/abs/1606.00915): §3.1 atrous convolution, §3.2
and figure 7 ASPP-L with rates 6, 12, 18, 24. The ResNet is Caffe's: the stride in a bottleneck's first 1x1, pooled
sizes rounded up, the first block of a dilated stage dilated too. github.com/kazuto1011/deeplab-pytorch computes the
same; `REFERENCE` translates its names. The paper's fusion of three input scales is not part of the network here; its
CRF is `--refine crf` of the runtime.
"""

from __future__ import annotations

from torch import Tensor, nn

from export.models._names import NameMap
from export.models._resnet import COUNTS, ResNet
from export.spec import VOC, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="deeplabv2", builder="deeplabv2", classes=VOC, stride=8, align_corners=True, multiple=1,
        preprocess=Preprocess((513, 513), mean=(104.008 / 255, 116.669 / 255, 122.675 / 255), std=(1 / 255,) * 3,
                              colour_order="bgr"),
        parameters=44_048_532, gmacs=188.886, counted_at=(513, 513),
        published=(
            Published("mIoU", 76.35, "VOC 2012 val, three scales, COCO pre-training, without CRF", "paper, table 4"),
            Published("mIoU", 77.69, "VOC 2012 val, the same with CRF", "paper, table 4"),
            Published("mIoU", 79.7, "VOC 2012 test, with CRF", "paper"),
            Published("mIoU", 70.4, "Cityscapes test, with CRF", "paper"),
        ),
        licence="MIT (kazuto1011/deeplab-pytorch)",
        paper="DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully "
              "Connected CRFs, TPAMI 2017, arXiv:1606.00915",
        note="Sizes of 8k+1 put a logit exactly on every corner. The published figures fuse three input scales."),
)

REFERENCE = NameMap("kazuto1011/deeplab-pytorch", (
    (r"^(?:base\.)?layer1\.conv1\.conv\.", "backbone.conv1."),
    (r"^(?:base\.)?layer1\.conv1\.bn\.", "backbone.bn1."),
    (r"^(?:base\.)?layer([2-5])\.block(\d+)\.reduce\.(conv|bn)\.", "backbone.layer{1-1}.{2-1}.{3}1."),
    (r"^(?:base\.)?layer([2-5])\.block(\d+)\.conv3x3\.(conv|bn)\.", "backbone.layer{1-1}.{2-1}.{3}2."),
    (r"^(?:base\.)?layer([2-5])\.block(\d+)\.increase\.(conv|bn)\.", "backbone.layer{1-1}.{2-1}.{3}3."),
    (r"^(?:base\.)?layer([2-5])\.block1\.(?:shortcut|proj)\.conv\.", "backbone.layer{1-1}.0.downsample.0."),
    (r"^(?:base\.)?layer([2-5])\.block1\.(?:shortcut|proj)\.bn\.", "backbone.layer{1-1}.0.downsample.1."),
    (r"^(?:base\.)?aspp\.(?:stages\.)?c(\d)\.", "aspp.{1}."),
))

RATES = (6, 12, 18, 24)


class DeepLabV2(nn.Module):
    """Float BGR [N, 3, H, W] → logits [N, classes, ⌈H/8⌉, ⌈W/8⌉] (exactly k+1 cells at a size of 8k+1)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        dilations = [[rate] * count for rate, count in zip((1, 1, 2, 4), COUNTS[101])]
        self.backbone = ResNet(101, (1, 2, 1, 1), dilations, early=True, ceil=True)
        self.aspp = nn.ModuleList(nn.Conv2d(2048, classes, 3, 1, rate, rate) for rate in RATES)
        for name, parameter in self.aspp.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone(x)[-1]
        logits: Tensor = self.aspp[0](x) + self.aspp[1](x) + self.aspp[2](x) + self.aspp[3](x)
        return logits


def deeplabv2(classes: int) -> nn.Module:
    """DeepLab v2 on ResNet-101, one input scale."""
    return DeepLabV2(classes)
