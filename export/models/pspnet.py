"""PSPNet: a dilated ResNet, and its last map averaged over 1, 4, 9 and 36 regions and set beside itself.

Zhao, Shi, Qi, Wang, Jia: "Pyramid Scene Parsing Network", CVPR 2017 (https://arxiv.org/abs/1612.01105): §3.2 and figure
3 the pyramid, §5.1 the backbone. Computation as in the first author's github.com/hszhao/semseg (`model/pspnet.py`): a
stem of three convolutions, dilations of 2 and 4 in every block of the last two stages, `align_corners=True`.
`REFERENCE` translates its names; the head over stage 4, which trains beside the main one, is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.models._aspp import pointwise, resize
from export.models._names import NameMap
from export.models._resnet import COUNTS, ResNet, initialise
from export.spec import CITYSCAPES, ModelSpec, Preprocess, Published

SPECS = tuple(
    ModelSpec(
        name=name, builder="PSPNet", options={"depth": depth}, preprocess=Preprocess((713, 713)), classes=CITYSCAPES,
        stride=8, align_corners=True, multiple=1, parameters=parameters, gmacs=gmacs, counted_at=(713, 713),
        published=published, licence="MIT", paper="Pyramid Scene Parsing Network, CVPR 2017, arXiv:1612.01105",
        note="Checkpoints of hszhao/semseg are on Google Drive; `--weights FILE` takes them as they are. Sizes of 8k+1 "
             "put a logit exactly on every corner, and the authors' code takes no others.")
    for name, depth, parameters, gmacs, published in (
        ("pspnet", 50, 46_715_347, 363.777, (
            Published("mIoU", 77.30, "Cityscapes val, single scale", "hszhao/semseg"),
            Published("mIoU", 77.05, "PASCAL VOC 2012 val, single scale", "hszhao/semseg"))),
        ("pspnet-resnet101", 101, 65_707_475, 517.190, (
            Published("mIoU", 78.63, "Cityscapes val, single scale", "hszhao/semseg"),
            Published("mIoU", 79.07, "PASCAL VOC 2012 val, single scale", "hszhao/semseg"),
            Published("mIoU", 81.2, "Cityscapes test, several scales, with coarse labels", "paper"),
            Published("FPS", 0.78, "713x713, Titan X", "DFANet paper"),
            Published("GFLOPs", 412.2, "713x713", "DFANet paper"),
            Published("parameters (M)", 250.8, "the file's megabytes, that is", "DFANet paper"))),
    )
)

REFERENCE = NameMap("hszhao/semseg", (
    (r"^layer0\.7\.", "backbone.bn1."), (r"^layer0\.", "backbone.conv1."), (r"^layer([1-4])\.", "backbone.layer{1}."),
    (r"^ppm\.features\.", "pyramid."), (r"^cls\.", "head."),
), dropped=(r"^aux\.",))

BINS = (1, 2, 3, 6)


class PSPNet(nn.Module):
    """The whole network on a ResNet of `depth` 50 or 101."""

    def __init__(self, classes: int, depth: int) -> None:
        super().__init__()
        rates = [[rate] * count for rate, count in zip((1, 1, 2, 4), COUNTS[depth])]
        self.backbone = ResNet(depth, (1, 2, 1, 1), rates, deep=True)
        self.pyramid = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(bins), *pointwise(2048, 512)) for bins in BINS)
        self.head = nn.Sequential(nn.Conv2d(4096, 512, 3, 1, 1, bias=False), nn.BatchNorm2d(512), nn.ReLU(),
                                  nn.Dropout2d(0.1), nn.Conv2d(512, classes, 1))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, 3, H, W] → logits [N, classes, ⌈H/8⌉, ⌈W/8⌉]."""
        last = self.backbone(x)[3]
        logits: Tensor = self.head(torch.cat([last, *(resize(level(last), last, True) for level in self.pyramid)], 1))
        return logits
