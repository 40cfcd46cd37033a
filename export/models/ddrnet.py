"""DDRNet: two branches of different resolution that exchange their maps twice, and context pooled at five scales.

Hong, Pan, Sun, Jia: "Deep Dual-resolution Networks for Real-time and Accurate Semantic Segmentation of Road Scenes",
2021 (https://arxiv.org/abs/2101.06085; T-ITS 2022), §III. Computation as in the authors' github.com/ydhongHIT/DDRNet
(`segmentation/DDRNet_23_slim.py`). `REFERENCE` translates its names; its auxiliary head is kept, and runs in training
only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.models._aspp import resize
from export.models._dual import bottleneck, head, normed, preactivated, scales, stage, stem
from export.models._names import NameMap
from export.models._resnet import initialise
from export.spec import CITYSCAPES, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="ddrnet-slim", builder="DDRNet", options={"planes": 32, "pooled": 128, "middle": 64},
        preprocess=Preprocess((512, 1024)), classes=CITYSCAPES, stride=8, align_corners=False, multiple=8,
        parameters=5_734_342, gmacs=36.281, counted_at=(1024, 2048),
        published=(
            Published("mIoU", 77.4, "Cityscapes test, 1024x2048", "paper"),
            Published("mIoU", 77.8, "Cityscapes val, 1024x2048", "ydhongHIT/DDRNet"),
            Published("mIoU", 74.7, "CamVid test, 720x960", "paper"),
            Published("FPS", 101.6, "1024x2048, RTX 2080 Ti", "paper"),
            Published("FPS", 230, "720x960, RTX 2080 Ti", "paper"),
            Published("GFLOPs", 36.3, "1024x2048", "paper"),
            Published("parameters (M)", 5.7, "Cityscapes", "paper"),
        ),
        licence="MIT", paper="Deep Dual-resolution Networks for Real-time and Accurate Semantic Segmentation of Road "
                             "Scenes, T-ITS 2022, arXiv:2101.06085",
        note="DDRNet-23-slim. The parameters include the auxiliary head, the GMACs do not; the published GFLOPs are "
             "multiply-accumulates. The authors' checkpoints are on Google Drive; `--weights FILE` takes them as they "
             "are."),
)

REFERENCE = NameMap("ydhongHIT/DDRNet", (
    (r"^(?:model\.)?spp\.scale(\d)\.", "context.scales.{1}."),
    (r"^(?:model\.)?spp\.process(\d)\.", "context.process.{1-1}."), (r"^(?:model\.)?spp\.", "context."),
    (r"^(?:model\.)?layer([345])_\.", "high{1}."), (r"^(?:model\.)?compression(\d)\.", "up{1}."),
    (r"^(?:model\.)?final_layer\.", "head."), (r"^(?:model\.)?seghead_extra\.", "aux."), (r"^model\.", ""),
), dropped=(r"^loss\.",))


class DAPPM(nn.Module):
    """Deep aggregation pyramid pooling ("DAPPM"): fine to coarse, each scale added to what the last one became."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.scales = scales(inputs, middle)
        self.process = nn.ModuleList(nn.Sequential(*preactivated(middle, middle, 3)) for _ in range(4))
        self.compression = nn.Sequential(*preactivated(5 * middle, outputs))
        self.shortcut = nn.Sequential(*preactivated(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H, W]."""
        finest, *pooled = (scale(x) for scale in self.scales)
        maps = [finest]
        for y, process in zip(pooled, self.process):
            maps.append(process(resize(y, x, False) + maps[-1]))
        return self.compression(torch.cat(maps, 1)) + self.shortcut(x)  # type: ignore[no-any-return]


class DDRNet(nn.Module):
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
        self.layer3, self.layer4 = stage(2 * planes, 4 * planes, 2, 2), stage(4 * planes, 8 * planes, 2, 2)
        self.layer5 = nn.Sequential(bottleneck(8 * planes, 8 * planes, 2))
        self.high3, self.high4 = stage(high, high, 2), stage(high, high, 2)
        self.high5 = nn.Sequential(bottleneck(high, high))
        self.up3, self.up4 = normed(4 * planes, high), normed(8 * planes, high)
        self.down3 = normed(high, 4 * planes, 3, 2)
        self.down4 = nn.Sequential(*normed(high, 4 * planes, 3, 2), nn.ReLU(), *normed(4 * planes, 8 * planes, 3, 2))
        self.context = DAPPM(16 * planes, pooled, 4 * planes)
        self.head, self.aux = head(4 * planes, middle, classes), head(high, middle, classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Float RGB [N, 3, H, W] → logits [N, classes, H/8, W/8]."""
        low = high = F.relu(self.layer2(F.relu(self.layer1(self.conv1(x)))))
        low, high = self.layer3(low), self.high3(high)
        middle = high + resize(self.up3(F.relu(low)), high, False)
        low = F.relu(low + self.down3(F.relu(high)))
        low, high = self.layer4(low), self.high4(F.relu(middle))
        detail = self.high5(F.relu(high + resize(self.up4(F.relu(low)), high, False)))
        low = self.layer5(F.relu(low + self.down4(F.relu(high))))
        logits: Tensor = self.head(detail + resize(self.context(low), detail, False))
        return {"out": logits, "aux": self.aux(middle)} if self.training else logits
