"""ICNet: a PSPNet of half its width over a quarter of the resolution, corrected by shallower branches over more.

Zhao, Qi, Shen, Shi, Jia: "ICNet for Real-Time Semantic Segmentation on High-Resolution Images", ECCV 2018
(https://arxiv.org/abs/1704.08545): §3 and figure 2 the cascade, §3.3 the fusion unit. Computation as in
github.com/meetps/pytorch-semseg (`ptsemseg/models/icnet.py`, "icnetBN"), whose weights are the authors' Caffe model
converted. `REFERENCE` translates its names; the classifiers of the coarser branches, which only train, are left out.

The authors wrote their pooling windows out for 1025x2049; at other sizes bins are those of adaptive pooling.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from export.models._aspp import resize
from export.models._names import NameMap
from export.models._resnet import Bottleneck, initialise
from export.spec import CITYSCAPES, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="icnet", builder="ICNet", classes=CITYSCAPES, stride=4, align_corners=True, multiple=1,
        preprocess=Preprocess((1025, 2049), mean=(103.939 / 255, 116.779 / 255, 123.68 / 255), std=(1 / 255,) * 3,
                              colour_order="bgr"),
        parameters=6_699_987, gmacs=30.014, counted_at=(1025, 2049),
        published=(
            Published("mIoU", 69.5, "Cityscapes test, 1024x2048", "paper"),
            Published("mIoU", 70.6, "Cityscapes test, 1024x2048, the best of the ECCV version", "paper"),
            Published("mIoU", 67.7, "Cityscapes val, 1024x2048", "paper"),
            Published("mIoU", 67.1, "CamVid test, 720x960", "paper"),
            Published("FPS", 30.3, "1024x2048, Titan X", "paper"),
            Published("GFLOPs", 28.3, "1024x2048", "DFANet paper"),
            Published("parameters (M)", 26.5, "Cityscapes; more likely the file's megabytes", "DFANet paper"),
        ),
        licence="MIT (the port); the authors' Caffe code is for non-commercial research",
        paper="ICNet for Real-Time Semantic Segmentation on High-Resolution Images, ECCV 2018, arXiv:1704.08545",
        note="Sizes of 32k+1 put a logit exactly on every corner in every branch."),
)

REFERENCE = NameMap("meetps/pytorch-semseg", (
    (r"^convbnrelu1_(\d)\.cbr_unit\.", "stem.{1-1}."), (r"^convbnrelu(\d)_sub1\.cbr_unit\.", "fine.{1-1}."),
    (r"^res_block(\w+)\.layers\.(\d)\.cbr(\d)\.cbr_unit\.0\.", "stage{1}.{2}.conv{3}."),
    (r"^res_block(\w+)\.layers\.(\d)\.cbr(\d)\.cbr_unit\.1\.", "stage{1}.{2}.bn{3}."),
    (r"^res_block(\w+)\.layers\.(\d)\.cb3\.cb_unit\.0\.", "stage{1}.{2}.conv3."),
    (r"^res_block(\w+)\.layers\.(\d)\.cb3\.cb_unit\.1\.", "stage{1}.{2}.bn3."),
    (r"^res_block(\w+)\.layers\.(\d)\.cb4\.cb_unit\.", "stage{1}.{2}.downsample."),
    (r"^conv5_4_k1\.cbr_unit\.", "reduce."), (r"^classification\.", "classifier."),
    (r"^cff_sub(\d+)\.low_dilated_conv_bn\.cb_unit\.", "fuse{1}.low."),
    (r"^cff_sub(\d+)\.high_proj_conv_bn\.cb_unit\.", "fuse{1}.high."),
), dropped=(r"\.low_classifier_conv\.", r"^pyramid_pooling\."))

BINS = (6, 3, 2, 1)
TRAINED = {6: ((8, 15), (5, 10)), 3: ((13, 25), (10, 20)), 2: ((17, 33), (16, 32)), 1: ((33, 65), (33, 65))}
"""Bins → window and stride (rows, columns) over the coarsest map of a 1025x2049 input, which has 33x65 cells."""


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs),
                         nn.ReLU())


def stage(inputs: int, planes: int, count: int, stride: int = 1, rate: int = 1) -> nn.Sequential:
    """Bottlenecks to 4 · `planes` channels."""
    return nn.Sequential(*(Bottleneck(4 * planes if index else inputs, planes, 1 if index else stride, rate)
                           for index in range(count)))


def halved(x: Tensor) -> Tensor:
    """[N, C, H, W] → [N, C, ⌈H/2⌉, ⌈W/2⌉], corners on corners."""
    return F.interpolate(x, [(length - 1) // 2 + 1 for length in x.shape[2:]], mode="bilinear", align_corners=True)


def pyramid(x: Tensor) -> Tensor:
    """The map with its averages over 36, 9, 4 and 1 regions added."""
    y = x
    for bins in BINS:
        pooled = (F.avg_pool2d(x, *TRAINED[bins]) if tuple(x.shape[2:]) == TRAINED[1][0]
                  else F.adaptive_avg_pool2d(x, bins))
        y = y + resize(pooled, x, True)
    return y


class CascadeFusion(nn.Module):
    """Cascade feature fusion (§3.3): the coarse map enlarged and convolved, the fine one projected, both added."""

    def __init__(self, low: int, high: int, outputs: int = 128) -> None:
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(low, outputs, 3, 1, 2, 2, bias=False), nn.BatchNorm2d(outputs))
        self.high = nn.Sequential(nn.Conv2d(high, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """[N, low, h, w] and [N, high, H, W] → [N, outputs, H, W]."""
        return F.relu(self.low(resize(low, high, True)) + self.high(high))


class ICNet(nn.Module):
    """Three branches over the image, its half and its quarter; the last two share their first layers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, 32, stride=2), convolution(32, 32), convolution(32, 64))
        self.stage2 = stage(64, 32, 3)
        self.stage3_conv = stage(128, 64, 1, stride=2)
        self.stage3_identity = stage(256, 64, 3)
        self.stage4 = stage(256, 128, 6, rate=2)
        self.stage5 = stage(512, 256, 3, rate=4)
        self.reduce = convolution(1024, 256, 1)
        self.fine = nn.Sequential(*(convolution(inputs, outputs, stride=2)
                                    for inputs, outputs in ((3, 32), (32, 32), (32, 64))))
        self.fuse24 = CascadeFusion(256, 256)
        self.fuse12 = CascadeFusion(128, 64)
        self.classifier = nn.Conv2d(128, classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, 3, H, W] → logits [N, classes, ⌈H/4⌉, ⌈W/4⌉]."""
        half = self.stage3_conv(self.stage2(F.max_pool2d(self.stem(halved(x)), 3, 2, 1)))
        quarter = self.reduce(pyramid(self.stage5(self.stage4(self.stage3_identity(halved(half))))))
        fused = self.fuse12(self.fuse24(quarter, half), self.fine(x))
        size = [(length - 1) // 4 + 1 for length in x.shape[2:]]
        logits: Tensor = self.classifier(F.interpolate(fused, size, mode="bilinear", align_corners=True))
        return logits
