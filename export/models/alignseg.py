"""AlignSeg: features of neighbouring levels, and of context, aligned by two learned offset maps before they are added.

Huang, Wei, Wang, Liu, Huang, Shi: "AlignSeg: Feature-Aligned Segmentation Networks", TPAMI 2021
(https://arxiv.org/abs/2003.00872): §3.2 aligned feature aggregation, §3.3 aligned context modelling. Computation as in
the authors' github.com/speedinghzl/AlignSeg (`networks/alignseg.py`): each offset map has convolutions of its own, the
batch norms carry a leaky ReLU, interpolations have `align_corners=True`, the warps do not (torch's default for the
`grid_sample` that it calls). `REFERENCE` translates its names and its InPlaceABN scales.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.models._aspp import resize
from export.models._flow import warp
from export.models._names import NameMap
from export.models._resnet import ResNet, initialise
from export.spec import CITYSCAPES, ModelSpec, Preprocess, Published

SPECS = tuple(
    ModelSpec(
        name=name, builder="alignseg", options={"depth": depth}, classes=CITYSCAPES, stride=4, align_corners=True,
        multiple=1, parameters=parameters, gmacs=gmacs, counted_at=(769, 769), published=published,
        preprocess=Preprocess((513, 1025), mean=(104.00698793 / 255, 116.66876762 / 255, 122.67891434 / 255),
                              std=(1 / 255,) * 3, colour_order="bgr"),
        licence="MIT", paper="AlignSeg: Feature-Aligned Segmentation Networks, TPAMI 2021, arXiv:2003.00872",
        note="Sizes of 4k+1 put a logit exactly on every corner. The authors' checkpoints (ResNet-101) are on Google "
             "Drive; `--weights FILE` takes them as they are.")
    for name, depth, parameters, gmacs, published in (
        ("alignseg", 50, 47_258_707, 207.381, ()),
        ("alignseg-resnet101", 101, 66_250_835, 252.856, (
            Published("mIoU", 82.6, "Cityscapes test, multi-scale", "paper"),
            Published("mIoU", 80.3, "Cityscapes val, single scale", "speedinghzl/AlignSeg"),
            Published("mIoU", 81.4, "Cityscapes val, single scale, OHEM", "speedinghzl/AlignSeg"),
            Published("mIoU", 45.95, "ADE20K val", "paper"))),
    )
)

REFERENCE = NameMap("speedinghzl/AlignSeg", (
    (r"^conv1\.", "backbone.conv1.0."), (r"^bn1\.", "backbone.conv1.1."), (r"^conv2\.", "backbone.conv1.3."),
    (r"^bn2\.", "backbone.conv1.4."), (r"^conv3\.", "backbone.conv1.6."), (r"^bn3\.", "backbone.bn1."),
    (r"^layer([1-4])\.", "backbone.layer{1}."),
    (r"^CAM\.delta_gen\.", "context.offset."), (r"^CAM\.", "context."),
    (r"^RRB(\d)a\.", "reduce.{1-1}."), (r"^RRB(\d)b\.", "refine.{1-2}."),
    (r"^CAB(\d)\.delta_gen1\.", "align.{1-2}.coarse."), (r"^CAB(\d)\.delta_gen2\.", "align.{1-2}.fine."),
), dropped=(r"^dsn\.",), inplace_abn=r".")

WIDTH = 256


class ActivatedNorm(nn.BatchNorm2d):
    """Batch norm and leaky ReLU of slope 0.01: InPlaceABN's result, without its memory trick."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        return F.leaky_relu(super().forward(x), 0.01)


class Refine(nn.Module):
    """1x1 to 256 channels, then a residual pair of 3x3 convolutions ("RRB" in the code)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.unify = nn.Conv2d(inputs, WIDTH, 1, bias=False)
        self.residual = nn.Sequential(nn.Conv2d(WIDTH, WIDTH // 4, 3, 1, 1, bias=False), ActivatedNorm(WIDTH // 4),
                                      nn.Conv2d(WIDTH // 4, WIDTH, 3, 1, 1, bias=False))
        self.norm = ActivatedNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, 256, H, W]."""
        x = self.unify(x)
        y: Tensor = self.norm(x + self.residual(x))
        return y


def offset() -> nn.Sequential:
    """Two concatenated maps → one offset map [N, 2, H, W]; starts at zero."""
    return nn.Sequential(nn.Conv2d(2 * WIDTH, WIDTH, 1, bias=False), ActivatedNorm(WIDTH),
                         nn.Conv2d(WIDTH, 2, 3, 1, 1, bias=False))


def moved(x: Tensor, flow: Tensor) -> Tensor:
    """`x` at the offsets' size; an offset of the map's own width or height is half the map."""
    return warp(x, flow, (x.shape[3], x.shape[2]), align_corners=False)


class Aggregation(nn.Module):
    """§3.2: both levels are warped, each by its own offsets, and added."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse, self.fine = offset(), offset()

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """[N, 256, H, W] and [N, 256, h, w] → [N, 256, H, W]."""
        coarse = resize(coarse, fine, True)
        both = torch.cat((fine, coarse), 1)
        return moved(coarse, self.coarse(both)) + moved(fine, self.fine(both))


class ImageContext(nn.Module):
    """§3.3: a 3x3 summary of the image, warped back over the map that it came from."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(3), *self.branch(inputs))
        self.adapt = self.branch(inputs)
        self.offset = offset()

    @staticmethod
    def branch(inputs: int) -> nn.Sequential:
        """1x1 and 3x3 convolution, [N, inputs, H, W] → [N, 256, H, W]."""
        return nn.Sequential(nn.Conv2d(inputs, inputs, 1, bias=False), ActivatedNorm(inputs),
                             nn.Conv2d(inputs, WIDTH, 3, 1, 1, bias=False), ActivatedNorm(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, 256, H, W]."""
        summary, x = self.pool(x), self.adapt(x)
        return moved(summary, self.offset(torch.cat((x, resize(summary, x, True)), 1))) + x


class AlignSeg(nn.Module):
    """Float BGR [N, 3, H, W] → logits [N, classes, H/4, W/4] (exactly k+1 cells at a size of 4k+1)."""

    def __init__(self, classes: int, depth: int) -> None:
        super().__init__()
        self.backbone = ResNet(depth, deep=True, ceil=True)
        self.context = ImageContext(2048)
        self.reduce = nn.ModuleList(Refine(inputs) for inputs in (256, 512, 1024, 2048, WIDTH))
        self.align = nn.ModuleList(Aggregation() for _ in range(4))
        self.refine = nn.ModuleList(Refine(WIDTH) for _ in range(4))
        self.head = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, 1, 1), ActivatedNorm(WIDTH), nn.Dropout2d(0.1),
                                  nn.Conv2d(WIDTH, classes, 1))
        initialise(self)
        for name, parameter in self.named_parameters():
            if name.startswith(("context.offset.2", "align.")) and parameter.shape[0] == 2:
                nn.init.zeros_(parameter)  # no displacement to begin with, as the reference starts

    def forward(self, x: Tensor) -> Tensor:
        finest, *stages = self.backbone(x)
        x = self.reduce[0](finest)
        for stage, reduce, align, refine in zip((*stages, self.context(stages[-1])), self.reduce[1:], self.align,
                                                self.refine):
            x = refine(align(x, reduce(stage)))
        logits: Tensor = self.head(x)
        return logits


def alignseg(classes: int, depth: int = 50) -> nn.Module:
    """AlignSeg on ResNet-50 or -101 with a deep stem."""
    return AlignSeg(classes, depth)
