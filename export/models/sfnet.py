"""SFNet: a feature pyramid whose levels are brought into register by a learned flow before they are added.

Li et al., "Semantic Flow for Fast and Accurate Scene Parsing", ECCV 2020 (https://arxiv.org/abs/2002.10120): §3.2 and
figure 3 the flow alignment module, §3.3 and figure 4 the network. Computation as in the authors'
github.com/lxtGH/SFSegNets (`network/sfnet_resnet.py`, DeepR18_SF_deeply): a ResNet-18 with a deep stem whose last two
stages keep their strides *and* dilate their second convolutions by 2 and 4, a pyramid pooling module (1, 2, 3, 6), and
`align_corners=True` in every interpolation and warp. `REFERENCE` translates its names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.models._aspp import resize
from export.models._flow import warp
from export.models._names import NameMap
from export.models._resnet import ResNet, initialise
from export.spec import CITYSCAPES, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="sfnet", builder="sfnet", preprocess=Preprocess((512, 1024)), classes=CITYSCAPES, stride=4,
        align_corners=True, multiple=1, parameters=12_869_715, gmacs=242.965, counted_at=(1024, 2048),
        published=(
            Published("mIoU", 79.0, "Cityscapes val, single scale", "lxtGH/SFSegNets"),
            Published("mIoU", 80.4, "Cityscapes test", "paper, abstract"),
            Published("FPS", 25.7, "1024x2048, GTX 1080 Ti", "lxtGH/SFSegNets"),
        ),
        licence="MIT", paper="Semantic Flow for Fast and Accurate Scene Parsing, ECCV 2020, arXiv:2002.10120",
        note="Checkpoints of lxtGH/SFSegNets are on Google Drive; `--weights FILE` takes them as they are."),
)

REFERENCE = NameMap("lxtGH/SFSegNets", (
    (r"^layer0\.0\.", "backbone.conv1."), (r"^layer0\.1\.", "backbone.bn1."),
    (r"^layer([1-4])\.", "backbone.layer{1}."),
    (r"^head\.ppm\.bottleneck\.", "pyramid.bottleneck."), (r"^head\.ppm\.stages\.", "pyramid.levels."),
    (r"^head\.fpn_in\.", "lateral."), (r"^head\.fpn_out\.(\d)\.0\.", "smooth.{1}."),
    (r"^head\.fpn_out_align\.", "align."),
    (r"^head\.conv_last\.0\.", "fuse."), (r"^head\.conv_last\.1\.", "classifier."),
), dropped=(r"^head\.dsn\.",))

WIDTH = 128


def convolution(inputs: int, outputs: int, kernel: int, bias: bool = False) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=bias), nn.BatchNorm2d(outputs),
                         nn.ReLU())


class PyramidPooling(nn.Module):
    """PSPNet's module (Zhao et al., CVPR 2017, §3.2); no activation after the pooled convolutions, as the reference."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(cells), nn.Conv2d(inputs, outputs, 1, bias=False),
                          nn.BatchNorm2d(outputs)) for cells in (1, 2, 3, 6))
        self.bottleneck = nn.Sequential(*convolution(inputs + 4 * outputs, outputs, 1), nn.Dropout2d(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H, W]."""
        y: Tensor = self.bottleneck(torch.cat([resize(level(x), x, True) for level in self.levels] + [x], 1))
        return y


class FlowAlignment(nn.Module):
    """§3.2: predict where each fine cell finds its match in the coarse map, and sample it there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down_h = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.down_l = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.flow_make = nn.Conv2d(channels, 2, 3, 1, 1, bias=False)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """[N, C, H, W] and [N, C, h, w] → the coarse map at [N, C, H, W]."""
        both = torch.cat((resize(self.down_h(coarse), fine, True), self.down_l(fine)), 1)
        height, width = fine.shape[2:]
        return warp(coarse, self.flow_make(both), (width, height), align_corners=True)


class SFNet(nn.Module):
    """ResNet-18, pyramid pooling, and a way back up on which every coarse map is aligned with the finer one (§3.3)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = ResNet(18, (1, 2, 2, 2), ((1, 1), (1, 1), (2, 2), (4, 4)), deep=True)
        self.pyramid = PyramidPooling(512, WIDTH)
        self.lateral = nn.ModuleList(convolution(inputs, WIDTH, 1, bias=True) for inputs in (64, 128, 256))
        self.align = nn.ModuleList(FlowAlignment(WIDTH) for _ in range(3))
        self.smooth = nn.ModuleList(convolution(WIDTH, WIDTH, 3) for _ in range(3))
        self.fuse = convolution(4 * WIDTH, WIDTH, 3)
        self.classifier = nn.Conv2d(WIDTH, classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, 3, H, W] → logits [N, classes, ⌈H/4⌉, ⌈W/4⌉]."""
        *stages, last = self.backbone(x)
        coarse = self.pyramid(last)
        levels = [coarse]
        for stage, lateral, align, smooth in reversed(list(zip(stages, self.lateral, self.align, self.smooth))):
            fine = lateral(stage)
            coarse = fine + align(fine, coarse)
            levels.insert(0, smooth(coarse))
        finest = levels[0]
        fused = self.fuse(torch.cat([finest] + [resize(level, finest, True) for level in levels[1:]], 1))
        logits: Tensor = self.classifier(fused)
        return logits


def sfnet(classes: int) -> nn.Module:
    """SFNet on ResNet-18."""
    return SFNet(classes)
