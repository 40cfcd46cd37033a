"""STDC-Seg: BiSeNet's context path on a backbone of its own, and no second path beside it.

Fan, Lai, Huang, Wei, Chai, Luo, Wei: "Rethinking BiSeNet For Real-time Semantic Segmentation", CVPR 2021
(https://arxiv.org/abs/2104.13188): §3.1 and figure 3 the short-term dense concatenation, table 2 the backbones, §3.2
the decoder and its detail guidance. Computation as in the authors' github.com/MichaelFan01/STDC-Seg
(`models/model_stages.py`, `nets/stdcnet.py`); the decoder's batch norms are InPlaceABN's there, the backbone's are not.
`REFERENCE` translates its names. Its two auxiliary classifiers are kept, and run in training only; its heads for the
detail loss, which has labels of its own, and its backbone's ImageNet classifier are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.models._names import NameMap
from export.models._resnet import initialise
from export.models.bisenet import WIDTH, ContextPath, FeatureFusion, convolution, head
from export.spec import CITYSCAPES, ModelSpec, Preprocess, Published

SPECS = tuple(
    ModelSpec(
        name=f"stdc{variant}", builder="STDC", options={"blocks": blocks}, preprocess=Preprocess((512, 1024)),
        classes=CITYSCAPES, stride=8, align_corners=True, multiple=1, parameters=parameters, gmacs=gmacs,
        counted_at=(512, 1024),
        published=(
            *(Published("mIoU", value, f"Cityscapes {conditions}", source) for value, conditions, source in miou),
            Published("mIoU", camvid[0], "CamVid test, 720x960", "paper"),
            *(Published("FPS", value, f"{size}, GTX 1080 Ti, TensorRT", "MichaelFan01/STDC-Seg")
              for value, size in zip(fps, ("512x1024", "768x1536"))),
            Published("FPS", camvid[1], "720x960, GTX 1080 Ti, TensorRT", "paper"),
            Published("backbone GFLOPs", backbone[0], "as a classifier, 224x224", "paper"),
            Published("backbone parameters (M)", backbone[1], "as a classifier", "paper")),
        licence="MIT",
        paper="Rethinking BiSeNet For Real-time Semantic Segmentation, CVPR 2021, arXiv:2104.13188",
        note="Seg50 and Seg75 are this network at 512x1024 and 768x1536. The parameters include the auxiliary heads, "
             "the GMACs do not. The authors' checkpoints are on Google Drive; `--weights FILE` takes them as they are.")
    for variant, blocks, parameters, gmacs, miou, fps, camvid, backbone in (
        (1, (2, 2, 2), 8_425_248, 16.863, (
            (71.9, "test, 512x1024", "paper"), (75.3, "test, 768x1536", "paper"),
            (72.2, "val, 512x1024", "MichaelFan01/STDC-Seg"), (74.5, "val, 768x1536", "MichaelFan01/STDC-Seg")),
         (250.4, 126.7), (73.0, 197.6), (0.813, 8.44)),
        (2, (4, 5, 3), 12_455_712, 23.457, (
            (73.4, "test, 512x1024", "paper"), (76.8, "test, 768x1536", "paper"),
            (74.2, "val, 512x1024", "MichaelFan01/STDC-Seg"), (77.0, "val, 768x1536", "MichaelFan01/STDC-Seg")),
         (188.6, 97.0), (73.9, 152.2), (1.446, 12.47)),
    )
)

REFERENCE = NameMap("MichaelFan01/STDC-Seg", (
    (r"^cp\.backbone\.features\.", "backbone."), (r"^cp\.", "context."),
    (r"^ffm\.conv1\.", "fusion.gate.1."), (r"^ffm\.conv2\.", "fusion.gate.3."), (r"^ffm\.", "fusion."),
    (r"^conv_out\.", "head."), (r"^conv_out(16|32)\.", "aux.{1}."),
), dropped=(r"^cp\.backbone\.(?!features\.)", r"^conv_out_sp\d+\."), inplace_abn=r"^(?!backbone\.)")


class STDCBlock(nn.Module):
    """Figure 3: four convolutions in a row whose outputs, ever fewer channels each, are concatenated.

    With a stride of 2 the first one's output is halved, by averaging for the concatenation and by a depthwise
    convolution for the second one.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv_list = nn.ModuleList([
            convolution(inputs, half, 1), convolution(half, outputs // 4, 3),
            convolution(outputs // 4, outputs // 8, 3), convolution(outputs // 8, outputs // 8, 3)])
        self.skip = nn.AvgPool2d(3, 2, 1) if stride == 2 else nn.Identity()
        self.avd_layer = nn.Identity() if stride == 1 else nn.Sequential(
            nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False), nn.BatchNorm2d(half))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]."""
        first, *others = self.conv_list
        x = first(x)
        parts, x = [self.skip(x)], self.avd_layer(x)
        for convolve in others:
            x = convolve(x)
            parts.append(x)
        return torch.cat(parts, 1)


class STDCBackbone(nn.Sequential):
    """STDC1 or STDC2 (table 2): two convolutions, then three stages of `blocks` blocks."""

    def __init__(self, blocks: tuple[int, int, int]) -> None:
        layers: list[nn.Module] = [convolution(3, 32, 3, 2), convolution(32, 64, 3, 2)]
        channels = 64
        for count, outputs in zip(blocks, (256, 512, 1024)):
            layers += [STDCBlock(outputs if index else channels, outputs, 1 if index else 2) for index in range(count)]
            channels = outputs
        super().__init__(*layers)
        first, second, _ = blocks
        self.ends = (1 + first, 1 + first + second, len(layers) - 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Float [N, 3, H, W] → [N, 256, ...], [N, 512, ...] and [N, 1024, ...] at strides 8, 16 and 32."""
        maps = []
        for layer in self:
            x = layer(x)
            maps.append(x)
        return tuple(maps[end] for end in self.ends)


class STDC(nn.Module):
    """Backbone, context path, fusion with the backbone's own map at stride 8, and a classifier.

    In training mode it returns {"out": logits, "aux16": logits, "aux32": logits}, the latter from the context path.
    """

    def __init__(self, classes: int, blocks: tuple[int, int, int]) -> None:
        super().__init__()
        self.backbone = STDCBackbone(blocks)
        self.context = ContextPath((512, 1024))
        self.fusion = FeatureFusion(256 + WIDTH, nn.Conv2d(256, 64, 1, bias=False), nn.ReLU(),
                             nn.Conv2d(64, 256, 1, bias=False))
        self.head = head(256, 256, classes, bias=False)
        self.aux = nn.ModuleDict({stride: head(WIDTH, 64, classes, bias=False) for stride in ("16", "32")})
        initialise(self)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Float RGB [N, 3, H, W] → logits [N, classes, ⌈H/8⌉, ⌈W/8⌉]."""
        maps = self.backbone(x)
        y8, y16 = self.context(*maps)
        logits: Tensor = self.head(self.fusion(maps[0], y8))
        if self.training:
            return {"out": logits, "aux16": self.aux["16"](y8), "aux32": self.aux["32"](y16)}
        return logits
