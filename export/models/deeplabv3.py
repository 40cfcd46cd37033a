"""DeepLabV3: atrous spatial pyramid pooling with image-level features, on ResNet or MobileNetV3.

Chen, Papandreou, Schroff, Adam: "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017
(https://arxiv.org/abs/1706.05587): §3.2 the cascaded modules and the multi-grid, §3.3 the pyramid. At their defaults
the ResNet and MobileNet networks compute what torchvision's `deeplabv3_*` do, with the same names, so that its
checkpoints load as they are: output stride 8 (16 for MobileNet), no multi-grid, rates 12, 24, 36, a 3x3 convolution
before the classifier that the paper does not have, and an auxiliary FCN head, which only training runs.
"""

from __future__ import annotations

from torch import Tensor, nn

from export.models import _resnet
from export.models._aspp import ASPP, auxiliary, rates
from export.models._resnet import Bottleneck, ResNet, dilated
from export.models.lraspp import LARGE, ConvNorm, InvertedResidual
from export.spec import VOC, ModelSpec, Preprocess, Published

SPECS = (
    *(ModelSpec(
        name=name, builder=builder, options=options, preprocess=Preprocess((520, 520)), classes=VOC, stride=stride,
        align_corners=False, multiple=8, parameters=parameters, gmacs=gmacs, counted_at=(520, 520),
        published=(
            Published("mIoU", miou, "COCO val2017, VOC labels, shorter side 520", "torchvision"),
            Published("parameters (M)", parameters / 1e6, "with the auxiliary head", "torchvision"),
            Published("GMAC", published, "520x520, with the auxiliary head", "torchvision")),
        weights={"torchvision": (f"https://download.pytorch.org/models/{file}", file[-12:-4])},
        licence="BSD-3-Clause", paper="Rethinking Atrous Convolution for Semantic Image Segmentation, arXiv:1706.05587",
        note="The parameters include the auxiliary head, which is in torchvision's checkpoints; the GMACs do not, "
             "because it never runs outside training.")
      for name, builder, options, stride, parameters, gmacs, miou, published, file in (
          ("deeplabv3", "deeplabv3", {"depth": 50}, 8, 42_004_074, 168.731, 66.4, 178.722,
           "deeplabv3_resnet50_coco-cd0a2569.pth"),
          ("deeplabv3-resnet101", "deeplabv3", {"depth": 101}, 8, 60_996_202, 248.752, 67.4, 258.743,
           "deeplabv3_resnet101_coco-586e9e4e.pth"),
          ("deeplabv3-mobilenet", "deeplabv3_mobilenet", {}, 16, 11_029_328, 10.436, 60.3, 10.452,
           "deeplabv3_mobilenet_v3_large-fc3c493d.pth"))),
    ModelSpec(
        name="deeplabv3-cascade", builder="cascade", options={"depth": 101}, preprocess=Preprocess((513, 513)),
        classes=VOC, stride=16, align_corners=True, multiple=1,
        parameters=82_706_517, gmacs=98.436, counted_at=(513, 513),
        published=(
            Published("mIoU", 79.35, "VOC 2012 val, output stride 8, multi-scale and flip", "paper, table 4"),),
        licence="Apache-2.0", paper="Rethinking Atrous Convolution for Semantic Image Segmentation, arXiv:1706.05587",
        note="Sizes of 16k+1 put a logit exactly on every corner, as the paper's 513 does."),
)


class DeepLabV3(nn.Module):
    """Backbone, pyramid, classifier: float [N, 3, H, W] → logits [N, classes, H/8, W/8] (or /16).

    In training mode with an auxiliary head it returns {"out": logits, "aux": logits}.
    """

    def __init__(self, backbone: nn.Module, features: int, middle: int | None, classes: int,
                 atrous_rates: tuple[int, int, int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Sequential(
            ASPP(features, atrous_rates), nn.Conv2d(256, 256, 3, 1, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(),
            nn.Conv2d(256, classes, 1))
        self.aux_classifier = auxiliary(middle, classes) if middle else None

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        *_, middle, last = self.backbone(x)
        logits: Tensor = self.classifier(last)
        if self.training and self.aux_classifier is not None:
            return {"out": logits, "aux": self.aux_classifier(middle)}
        return logits


class MobileNet(nn.ModuleDict):
    """MobileNetV3-Large, dilated, as the backbone: the maps at strides 8 and 16."""

    def __init__(self) -> None:
        layers = [ConvNorm(3, 16, 3, stride=2, activation=nn.Hardswish), *(InvertedResidual(row) for row in LARGE),
                  ConvNorm(160, 960, 1, activation=nn.Hardswish)]
        super().__init__({str(index): layer for index, layer in enumerate(layers)})
        _resnet.initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Float RGB [N, 3, H, W] → [N, 40, H/8, W/8] and [N, 960, H/16, W/16]."""
        maps = []
        for layer in self.values():
            x = layer(x)
            maps.append(x)
        return maps[4], x


class Cascade(nn.Module):
    """§3.2: block 4 copied three times, atrous rates doubling, then a 1x1 classifier; no pyramid."""

    def __init__(self, classes: int, depth: int, multi_grid: tuple[int, int, int], output_stride: int) -> None:
        super().__init__()
        self.backbone = ResNet(depth, *dilated(depth, output_stride, multi_grid))
        rate = 32 // output_stride  # of block 4; block 5 has twice that, and so on (figure 3b)
        self.cascade = nn.Sequential(*(
            nn.Sequential(*(Bottleneck(2048, 512, 1, rate * 2 ** step * grid) for grid in multi_grid))
            for step in (1, 2, 3)))
        self.classifier = nn.Conv2d(2048, classes, 1)
        _resnet.initialise(self.cascade)

    def forward(self, x: Tensor) -> Tensor:
        """Float RGB [N, 3, H, W] → logits [N, classes, H/8, W/8] (or /16)."""
        logits: Tensor = self.classifier(self.cascade(self.backbone(x)[-1]))
        return logits


def deeplabv3(classes: int, depth: int = 50, output_stride: int = 8, multi_grid: tuple[int, int, int] | None = None,
              aux: bool = True) -> nn.Module:
    """DeepLabV3 on ResNet-50 or -101.

    Args:
        classes: channels of the logits.
        depth: 50 or 101.
        output_stride: 8, or 16 with half the rates (§3.3).
        multi_grid: (1, 2, 4) is the paper's best; None is torchvision's.
        aux: with torchvision's auxiliary head on stage 3.
    """
    backbone = ResNet(depth, *dilated(depth, output_stride, multi_grid))
    return DeepLabV3(backbone, 2048, 1024 if aux else None, classes, rates(output_stride))


def deeplabv3_mobilenet(classes: int, aux: bool = True) -> nn.Module:
    """DeepLabV3 on the dilated MobileNetV3-Large; rates 12, 24, 36 although the stride is 16, as in torchvision."""
    return DeepLabV3(MobileNet(), 960, 40 if aux else None, classes, rates(8))


def cascade(classes: int, depth: int = 101, multi_grid: tuple[int, int, int] = (1, 2, 1), output_stride: int = 16
            ) -> nn.Module:
    """The cascaded DeepLabV3 of §3.2; (1, 2, 1) is its best multi-grid (table 3)."""
    return Cascade(classes, depth, multi_grid, output_stride)
