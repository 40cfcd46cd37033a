"""PIDNet: three branches, for detail (P), context (I) and boundaries (D), of which the third weighs the first two.

Xu, Xiong, Bhattacharyya: "PIDNet: A Real-time Semantic Segmentation Network Inspired by PID Controllers", CVPR 2023
(https://arxiv.org/abs/2206.02066): §3.2 the pixel-attention-guided fusion, §3.3 the parallel pyramid pooling, §3.4 the
boundary-attention-guided fusion. Computation as in the authors' github.com/XuJiacong/PIDNet (`models/pidnet.py`, the
small one). `REFERENCE` translates its names. Its auxiliary classifier on the P branch is kept, and runs in training
only; its boundary head, whose loss needs labels of its own, is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.models._aspp import resize
from export.models._dual import bottleneck, head, normed, preactivated, scales, stage, stem
from export.models._names import NameMap
from export.models._resnet import BasicBlock, initialise
from export.spec import CITYSCAPES, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="pidnet-s", builder="PIDNet", options={"planes": 32, "pooled": 96, "middle": 128},
        preprocess=Preprocess((512, 1024)), classes=CITYSCAPES, stride=8, align_corners=True, multiple=8,
        parameters=7_702_278, gmacs=47.194, counted_at=(1024, 2048),
        published=(
            Published("mIoU", 78.6, "Cityscapes test, 1024x2048", "paper"),
            Published("mIoU", 78.8, "Cityscapes val, 1024x2048", "XuJiacong/PIDNet"),
            Published("mIoU", 80.1, "CamVid test, 720x960, pretrained on Cityscapes", "paper"),
            Published("FPS", 93.2, "1024x2048, RTX 3090", "paper"),
            Published("FPS", 153.7, "720x960, RTX 3090", "paper"),
            Published("GFLOPs", 47.6, "1024x2048", "paper"),
            Published("parameters (M)", 7.6, "Cityscapes", "paper"),
        ),
        licence="MIT", paper="PIDNet: A Real-time Semantic Segmentation Network Inspired by PID Controllers, CVPR "
                             "2023, arXiv:2206.02066",
        note="The parameters include the auxiliary head, the GMACs do not; the published GFLOPs are "
             "multiply-accumulates. The authors' checkpoints are on Google Drive; `--weights FILE` takes them as they "
             "are."),
)

REFERENCE = NameMap("XuJiacong/PIDNet", (
    (r"^(?:model\.)?spp\.scale(\d)\.", "context.scales.{1}."),
    (r"^(?:model\.)?spp\.scale_process\.", "context.process."), (r"^(?:model\.)?spp\.", "context."),
    (r"^(?:model\.)?layer([345])_\.", "detail{1}."), (r"^(?:model\.)?layer([345])_d\.", "boundary{1}."),
    (r"^(?:model\.)?final_layer\.", "head."), (r"^(?:model\.)?seghead_p\.", "aux."), (r"^model\.", ""),
), dropped=(r"^(?:model\.)?seghead_d\.", r"^(?:sem|bd)_loss\."))


class PAPPM(nn.Module):
    """§3.3 ("PAPPM"): four pooled scales, each added to the map's own, side by side through one grouped convolution."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.scales = scales(inputs, middle)
        self.process = nn.Sequential(*preactivated(4 * middle, 4 * middle, 3, groups=4))
        self.compression = nn.Sequential(*preactivated(5 * middle, outputs))
        self.shortcut = nn.Sequential(*preactivated(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H, W]."""
        finest, *pooled = (scale(x) for scale in self.scales)
        coarser = self.process(torch.cat([resize(y, x, False) + finest for y in pooled], 1))
        return self.compression(torch.cat((finest, coarser), 1)) + self.shortcut(x)  # type: ignore[no-any-return]


class PixelAttention(nn.Module):
    """§3.2 ("Pag"): where detail and context look alike, take the context, elsewhere the detail."""

    def __init__(self, inputs: int, middle: int) -> None:
        super().__init__()
        self.f_x, self.f_y = normed(inputs, middle), normed(inputs, middle)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """[N, inputs, H, W] and [N, inputs, h, w] → [N, inputs, H, W]."""
        alike = (self.f_x(detail) * resize(self.f_y(context), detail, False)).sum(1, keepdim=True).sigmoid()
        return (1 - alike) * detail + alike * resize(context, detail, False)  # type: ignore[no-any-return]


class BoundaryAttention(nn.Module):
    """§3.4 ("Light-Bag"): on boundaries the detail counts, elsewhere the context."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_p, self.conv_i = normed(channels, channels), normed(channels, channels)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        """Three maps [N, C, H, W] → the same shape."""
        edge = boundary.sigmoid()
        y: Tensor = self.conv_p((1 - edge) * context + detail) + self.conv_i(context + edge * detail)
        return y


class PIDNet(nn.Module):
    """The whole network; in training mode it returns {"out": logits, "aux": logits}.

    Args:
        classes: channels of the logits.
        planes: channels of the first stage.
        pooled: channels of each scale of the context.
        middle: channels before the classifiers.
    """

    def __init__(self, classes: int, planes: int, pooled: int, middle: int) -> None:
        super().__init__()
        high = 2 * planes
        self.conv1 = stem(planes)
        self.layer1, self.layer2 = stage(planes, planes, 2), stage(planes, 2 * planes, 2, 2)
        self.layer3, self.layer4 = stage(2 * planes, 4 * planes, 3, 2), stage(4 * planes, 8 * planes, 3, 2)
        self.layer5 = nn.Sequential(bottleneck(8 * planes, 8 * planes, 2), bottleneck(16 * planes, 8 * planes))
        self.detail3, self.detail4 = stage(high, high, 2), stage(high, high, 2)
        self.detail5 = nn.Sequential(bottleneck(high, high))
        self.boundary3 = BasicBlock(high, planes, activated=False)
        self.boundary4 = nn.Sequential(bottleneck(planes, planes))
        self.boundary5 = nn.Sequential(bottleneck(high, high))
        self.compression3, self.compression4 = normed(4 * planes, high), normed(8 * planes, high)
        self.pag3, self.pag4 = PixelAttention(high, planes), PixelAttention(high, planes)
        self.diff3, self.diff4 = normed(4 * planes, planes, 3), normed(8 * planes, high, 3)
        self.context = PAPPM(16 * planes, pooled, 4 * planes)
        self.dfm = BoundaryAttention(4 * planes)
        self.head, self.aux = head(4 * planes, middle, classes), head(high, middle, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Float RGB [N, 3, H, W] → logits [N, classes, H/8, W/8]."""
        x = F.relu(self.layer2(F.relu(self.layer1(self.conv1(x)))))
        detail, boundary = self.detail3(x), self.boundary3(x)
        x = F.relu(self.layer3(x))
        middle = F.relu(self.pag3(detail, self.compression3(x)))
        detail, boundary = self.detail4(middle), F.relu(boundary + resize(self.diff3(x), boundary, False))
        x = F.relu(self.layer4(x))
        detail, boundary = self.pag4(detail, self.compression4(x)), self.boundary4(boundary)
        boundary = self.boundary5(F.relu(boundary + resize(self.diff4(x), boundary, False)))
        detail = self.detail5(F.relu(detail))
        context = resize(self.context(self.layer5(x)), detail, False)
        logits: Tensor = self.head(self.dfm(detail, context, boundary))
        return {"out": logits, "aux": self.aux(middle)} if self.training else logits
