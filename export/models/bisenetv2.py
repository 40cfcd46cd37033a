"""BiSeNetV2: a wide, shallow branch for detail and a narrow, deep one for meaning, each gated by the other.

Yu, Gao, Wang, Yu, Shen, Sang: "BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time Semantic
Segmentation", IJCV 2021 (https://arxiv.org/abs/2004.02147): §4.1 and table 1 the detail branch, §4.2 and figures 4 and
5 the semantic branch, §4.3 and figure 6 the guided aggregation, §4.4 the heads. Computation as in the best-known
implementation, github.com/CoinCheung/BiSeNet (`lib/models/bisenetv2.py`), whose activations the paper does not all
draw. `REFERENCE` translates its names; its four auxiliary heads are kept, and run in training only.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.models._names import NameMap
from export.models._resnet import initialise
from export.models.bisenet import WIDTH, convolution
from export.spec import CITYSCAPES, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="bisenetv2", builder="BiSeNetV2", classes=CITYSCAPES, stride=8, align_corners=False, multiple=32,
        preprocess=Preprocess((512, 1024), mean=(0.3257, 0.3690, 0.3223), std=(0.2112, 0.2148, 0.2115)),
        parameters=5_231_487, gmacs=24.603, counted_at=(512, 1024),
        published=(
            Published("mIoU", 72.6, "Cityscapes test, 512x1024", "paper"),
            Published("mIoU", 73.4, "Cityscapes val, 512x1024", "paper"),
            Published("mIoU", 74.95, "Cityscapes val, 1024x2048, single scale", "CoinCheung/BiSeNet"),
            Published("mIoU", 72.4, "CamVid test, 720x960", "paper"),
            Published("FPS", 156, "512x1024, GTX 1080 Ti, TensorRT", "paper"),
            Published("FPS", 124.5, "720x960, GTX 1080 Ti, TensorRT", "paper"),
            Published("GFLOPs", 21.15, "512x1024", "paper"),
        ),
        licence="MIT", paper="BiSeNet V2: Bilateral Network with Guided Aggregation for Real-time Semantic "
                             "Segmentation, IJCV 2021, arXiv:2004.02147",
        note="The parameters include the auxiliary heads, the GMACs do not; they are 16 % above the paper's GFLOPs, as "
             "the implementation's classifier works on 1024 channels, 9.7 GMAC of the whole. Checkpoints of "
             "CoinCheung/BiSeNet are on its releases page; `--weights FILE` takes them as they are."),
)

REFERENCE = NameMap("CoinCheung/BiSeNet", (
    (r"\.dwconv1?\.", ".expand.0."), (r"\.dwconv2\.", ".expand.1."), (r"\.conv2\.", ".project."),
    (r"^head\.conv_out\.1\.", "head.classifier."),
    (r"^aux(\d)(?:_4)?\.conv\.", "aux.{1-2}.conv."), (r"^aux(\d)(?:_4)?\.conv_out\.0\.1\.", "aux.{1-2}.wide."),
    (r"^aux(\d)(?:_4)?\.conv_out\.1\.", "aux.{1-2}.classifier."),
))

EXPANSION = 6


def normed(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(outputs))


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 depthwise convolution, batch norm, 1x1 convolution."""
    return nn.Sequential(*normed(inputs, inputs, 3, stride, inputs), nn.Conv2d(inputs, outputs, 1, bias=False))


class Stem(nn.Module):
    """Figure 4a: height and width are quartered by convolutions and by a maximum, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = convolution(3, 16, 3, 2)
        self.left = nn.Sequential(convolution(16, 8, 1), convolution(8, 16, 3, 2))
        self.right = nn.MaxPool2d(3, 2, 1)
        self.fuse = convolution(32, 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, 3, H, W] → [N, 16, ⌈H/4⌉, ⌈W/4⌉]."""
        x = self.conv(x)
        y: Tensor = self.fuse(torch.cat((self.left(x), self.right(x)), 1))
        return y


class GatherExpansion(nn.Module):
    """Figure 5: 3x3 convolution, depthwise ones over six times as many channels, 1x1 back, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = EXPANSION * inputs
        self.conv1 = convolution(inputs, inputs, 3)
        self.expand = nn.Sequential(normed(inputs, wide, 3, stride, inputs))
        if stride == 2:
            self.expand.append(normed(wide, wide, 3, 1, wide))
        self.expand.append(nn.ReLU())
        self.project = normed(wide, outputs, 1)
        self.shortcut = nn.Identity() if stride == 1 else nn.Sequential(
            *separable(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]."""
        return F.relu(self.project(self.expand(self.conv1(x))) + self.shortcut(x))


class ContextEmbedding(nn.Module):
    """Figure 4b: the mean of the scene added everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(WIDTH)
        self.conv_gap = convolution(WIDTH, WIDTH, 1)
        self.conv_last = convolution(WIDTH, WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 128, H, W] → the same shape."""
        y: Tensor = self.conv_last(x + self.conv_gap(self.bn(F.adaptive_avg_pool2d(x, 1))))
        return y


class SemanticBranch(nn.Sequential):
    """Table 1, named by its stages."""

    def __init__(self) -> None:
        super().__init__(OrderedDict(
            S1S2=Stem(),
            S3=nn.Sequential(GatherExpansion(16, 32, 2), GatherExpansion(32, 32, 1)),
            S4=nn.Sequential(GatherExpansion(32, 64, 2), GatherExpansion(64, 64, 1)),
            S5_4=nn.Sequential(GatherExpansion(64, 128, 2), *(GatherExpansion(128, 128, 1) for _ in range(3))),
            S5_5=ContextEmbedding()))

    def maps(self, x: Tensor) -> list[Tensor]:
        """Float [N, 3, H, W] → the five stages' outputs, at strides 4, 8, 16, 32 and 32."""
        maps = []
        for stage in self:
            x = stage(x)
            maps.append(x)
        return maps


class GuidedAggregation(nn.Module):
    """Figure 6: at either resolution one branch's map is weighted by the other's, and both are added."""

    def __init__(self) -> None:
        super().__init__()
        self.left1, self.right2 = separable(WIDTH, WIDTH), separable(WIDTH, WIDTH)
        self.left2 = nn.Sequential(*normed(WIDTH, WIDTH, 3, 2), nn.AvgPool2d(3, 2, 1))
        self.right1 = normed(WIDTH, WIDTH, 3)
        self.conv = nn.Sequential(*normed(WIDTH, WIDTH, 3), nn.ReLU())

    def forward(self, detail: Tensor, semantic: Tensor) -> Tensor:
        """[N, 128, H, W] and [N, 128, H/4, W/4] → [N, 128, H, W]."""
        size = detail.shape[2:]
        fine = self.left1(detail) * F.interpolate(self.right1(semantic), size=size).sigmoid()
        coarse = self.left2(detail) * self.right2(semantic).sigmoid()
        y: Tensor = self.conv(fine + F.interpolate(coarse, size=size))
        return y


def head(inputs: int, middle: int, classes: int, wide: int = 0) -> nn.Sequential:
    """3x3 convolution and classifier (§4.4); with `wide`, another 3x3 between them, over twice the height and width."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=convolution(inputs, middle, 3), drop=nn.Dropout(0.1))
    if wide:
        parts.update(up=nn.Upsample(scale_factor=2), wide=convolution(middle, wide, 3))
    parts.update(classifier=nn.Conv2d(wide or middle, classes, 1))
    return nn.Sequential(parts)


class BiSeNetV2(nn.Module):
    """Both branches, aggregated, and a classifier.

    In training mode it returns {"out": logits, "aux0": logits, …, "aux3": logits}, the latter from the stages of the
    semantic branch.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.detail = nn.Sequential(OrderedDict(
            S1=nn.Sequential(convolution(3, 64, 3, 2), convolution(64, 64, 3)),
            S2=nn.Sequential(convolution(64, 64, 3, 2), convolution(64, 64, 3), convolution(64, 64, 3)),
            S3=nn.Sequential(convolution(64, 128, 3, 2), convolution(128, 128, 3), convolution(128, 128, 3))))
        self.segment = SemanticBranch()
        self.bga = GuidedAggregation()
        self.head = head(WIDTH, 1024, classes)
        self.aux = nn.ModuleList(head(inputs, 128, classes, factor ** 2)
                                 for inputs, factor in ((16, 4), (32, 8), (64, 16), (128, 32)))
        initialise(self)
        for name, parameter in self.named_parameters():
            if name.endswith("project.1.weight"):
                nn.init.zeros_(parameter)  # a new block starts as its shortcut

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Float RGB [N, 3, H, W] → logits [N, classes, H/8, W/8]."""
        *stages, semantic = self.segment.maps(x)
        logits: Tensor = self.head(self.bga(self.detail(x), semantic))
        if self.training:
            return {"out": logits} | {f"aux{i}": aux(stage) for i, (aux, stage) in enumerate(zip(self.aux, stages))}
        return logits
