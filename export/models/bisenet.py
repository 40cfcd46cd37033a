"""BiSeNet: a shallow path that keeps detail beside a deep one that sees the whole scene.

Yu, Wang, Peng, Gao, Yu, Sang: "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018
(https://arxiv.org/abs/1808.00897): §3.1 the spatial path, §3.2 the context path and its attention refinement, §3.3 the
feature fusion. Computation as in the best-known implementation, github.com/CoinCheung/BiSeNet
(`lib/models/bisenetv1.py`): a ResNet-18 in the context path, nearest-neighbour upsampling inside, and a fusion gate of
one convolution where the paper has two. `REFERENCE` translates its names; its two auxiliary heads are kept, and run in
training only. STDC is built from the same parts.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.models._names import NameMap
from export.models._resnet import ResNet, initialise
from export.spec import CITYSCAPES, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="bisenet", builder="BiSeNet", classes=CITYSCAPES, stride=8, align_corners=False, multiple=32,
        preprocess=Preprocess((512, 1024), mean=(0.3257, 0.3690, 0.3223), std=(0.2112, 0.2148, 0.2115)),
        parameters=13_425_721, gmacs=66.565, counted_at=(768, 1536),
        published=(
            Published("mIoU", 74.7, "Cityscapes test, 768x1536", "paper"),
            Published("mIoU", 74.8, "Cityscapes val, 768x1536", "paper"),
            Published("mIoU", 75.44, "Cityscapes val, 1024x2048, single scale", "CoinCheung/BiSeNet"),
            Published("mIoU", 68.7, "CamVid test, 720x960", "paper"),
            Published("FPS", 65.5, "768x1536, Titan XP", "paper"),
            Published("GFLOPs", 55.3, "768x1536", "DDRNet paper"),
            Published("GFLOPs", 10.8, "360x640", "paper"),
            Published("parameters (M)", 49.0, "Cityscapes", "paper"),
        ),
        licence="MIT", paper="BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation, ECCV 2018, "
                             "arXiv:1808.00897",
        note="The paper counts 49 M parameters, of which its ResNet-18 explains 11.2 M; the network that is in public "
             "use, and that this one is, has a quarter of them. The parameters include the auxiliary heads, the GMACs "
             "do not. Checkpoints of CoinCheung/BiSeNet are on its releases page; `--weights FILE` takes them as they "
             "are."),
)

REFERENCE = NameMap("CoinCheung/BiSeNet", (
    (r"^cp\.resnet\.", "backbone."), (r"^cp\.", "context."), (r"^sp\.", "spatial."),
    (r"^ffm\.conv\.", "fusion.gate.1."), (r"^ffm\.bn\.", "fusion.gate.2."), (r"^ffm\.", "fusion."),
    (r"^conv_out\.", "head."), (r"^conv_out(16|32)\.", "aux.{1}."),
))

WIDTH = 128


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
                                     bn=nn.BatchNorm2d(outputs), relu=nn.ReLU()))


def head(inputs: int, middle: int, classes: int, bias: bool = True) -> nn.Sequential:
    """3x3 convolution and classifier, [N, inputs, H, W] → [N, classes, H, W]."""
    return nn.Sequential(OrderedDict(conv=convolution(inputs, middle, 3),
                                     conv_out=nn.Conv2d(middle, classes, 1, bias=bias)))


class Refinement(nn.Module):
    """§3.2: a 3x3 convolution whose channels are scaled by a gate computed from all channels' means."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, 3)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H, W]."""
        y: Tensor = self.conv(x)
        return y * self.bn_atten(self.conv_atten(F.adaptive_avg_pool2d(y, 1))).sigmoid()  # type: ignore[no-any-return]


class ContextPath(nn.Module):
    """The context path's way back up, from the mean of the whole scene; `inputs` are channels at strides 16, 32."""

    def __init__(self, inputs: tuple[int, int]) -> None:
        super().__init__()
        self.arm16, self.arm32 = (Refinement(channels, WIDTH) for channels in inputs)
        self.conv_avg = convolution(inputs[1], WIDTH, 1)
        self.conv_head32, self.conv_head16 = convolution(WIDTH, WIDTH, 3), convolution(WIDTH, WIDTH, 3)

    def forward(self, x8: Tensor, x16: Tensor, x32: Tensor) -> tuple[Tensor, Tensor]:
        """Backbone maps at strides 8, 16 and 32 → [N, 128, H, W] at strides 8 and 16."""
        scene = self.conv_avg(F.adaptive_avg_pool2d(x32, 1))
        y16 = self.conv_head32(F.interpolate(self.arm32(x32) + scene, size=x16.shape[2:]))
        return self.conv_head16(F.interpolate(self.arm16(x16) + y16, size=x8.shape[2:])), y16


class FeatureFusion(nn.Module):
    """§3.3: both paths concatenated, mixed, and weighted anew by `gate`, which sees the means of 256 channels."""

    def __init__(self, inputs: int, *gate: nn.Module) -> None:
        super().__init__()
        self.convblk = convolution(inputs, 256, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), *gate, nn.Sigmoid())

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """Two maps of one height and width → [N, 256, H, W]."""
        y: Tensor = self.convblk(torch.cat((spatial, context), 1))
        return y + y * self.gate(y)  # type: ignore[no-any-return]


class BiSeNet(nn.Module):
    """Both paths, fused, and a classifier.

    In training mode it returns {"out": logits, "aux16": logits, "aux32": logits}, the latter from the context path.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = ResNet(18)
        self.context = ContextPath((256, 512))
        self.spatial = nn.Sequential(OrderedDict(
            conv1=convolution(3, 64, 7, 2), conv2=convolution(64, 64, 3, 2), conv3=convolution(64, 64, 3, 2),
            conv_out=convolution(64, WIDTH, 1)))
        self.fusion = FeatureFusion(2 * WIDTH, nn.Conv2d(256, 256, 1, bias=False), nn.BatchNorm2d(256))
        self.head = head(256, 256, classes)
        self.aux = nn.ModuleDict({stride: head(WIDTH, 64, classes) for stride in ("16", "32")})
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Float RGB [N, 3, H, W] → logits [N, classes, H/8, W/8]."""
        y8, y16 = self.context(*self.backbone(x)[1:])
        logits: Tensor = self.head(self.fusion(self.spatial(x), y8))
        if self.training:
            return {"out": logits, "aux16": self.aux["16"](y8), "aux32": self.aux["32"](y16)}
        return logits
