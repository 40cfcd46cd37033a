"""DeepLabV3+: DeepLabV3 as the encoder, and a decoder that brings back object boundaries.

Chen, Zhu, Papandreou, Schroff, Adam: "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018 (https://arxiv.org/abs/1802.02611): §3.1 the encoder and the separable convolutions, §3.2 and
figure 2 the decoder with 48-channel low-level features. On Xception-65 the pyramid and the decoder are separable, as
in Google's code (tensorflow/models, research/deeplab); on ResNet they are not, which is the paper's §4.2. Low-level
features are the paper's "Conv2" (ResNet's first stage), or the second convolution of Xception's second entry block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.models._aspp import ASPP, Convolution, atrous, pointwise, rates, resize, separable
from export.models._resnet import ResNet, dilated, initialise
from export.models._xception import Xception65
from export.spec import CITYSCAPES, ModelSpec, Preprocess, Published

SPECS = tuple(
    ModelSpec(
        name=name, builder="deeplabv3plus", options={"backbone": backbone}, preprocess=preprocess, classes=CITYSCAPES,
        stride=4, align_corners=True, multiple=1, parameters=parameters, gmacs=gmacs, counted_at=(513, 513),
        published=published, licence="Apache-2.0",
        paper="Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation, ECCV 2018, "
              "arXiv:1802.02611",
        note="Sizes of 16k+1 put a logit exactly on every corner, as the paper's 513 does. Google counted a ResNet "
             "with a deep stem, which costs about 7 GMAC more at 513x513 than torchvision's, used here.")
    for name, backbone, preprocess, parameters, gmacs, published in (
        ("deeplabv3plus", "xception65", Preprocess((513, 1025), mean=(0.5,) * 3, std=(0.5,) * 3), 41_054_899, 54.027, (
            Published("mIoU", 82.1, "Cityscapes test, Xception-71, coarse annotations too", "paper"),
            Published("mIoU", 78.79, "Cityscapes val, output stride 16, single scale", "tensorflow/models, model zoo"),
            Published("mIoU", 82.20, "VOC 2012 val, output stride 16, single scale", "tensorflow/models, model zoo"),
            Published("GMAC", 54.17, "513x513, output stride 16, 21 classes", "tensorflow/models, model zoo"))),
        ("deeplabv3plus-resnet50", "resnet50", Preprocess((513, 1025)), 40_351_667, 72.186, ()),
        ("deeplabv3plus-resnet101", "resnet101", Preprocess((513, 1025)), 59_343_795, 92.812, (
            Published("mIoU", 78.85, "VOC 2012 val, output stride 16, single scale", "paper, table 3"),
            Published("GMAC", 101.28, "513x513, output stride 16, 21 classes", "paper, table 3"))),
    )
)

LOW_CHANNELS = 48


class DeepLabV3Plus(nn.Module):
    """Float [N, 3, H, W] → logits [N, classes, ⌈H/4⌉, ⌈W/4⌉].

    Args:
        backbone: returns features at stride 4 (256 channels) and at the output stride (2048), first and last.
        convolution: of the pyramid and of the decoder.
        atrous_rates: of the pyramid.
        classes: channels of the logits.
    """

    def __init__(self, backbone: nn.Module, convolution: Convolution, atrous_rates: tuple[int, int, int], classes: int
                 ) -> None:
        super().__init__()
        self.backbone = backbone
        self.aspp = ASPP(2048, atrous_rates, convolution, dropout=0.1)
        self.low = pointwise(256, LOW_CHANNELS)
        self.decoder = nn.Sequential(convolution(256 + LOW_CHANNELS, 256, 1), convolution(256, 256, 1))
        self.classifier = nn.Conv2d(256, classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        low, *_, last = self.backbone(x)
        low = self.low(low)
        x = torch.cat((resize(self.aspp(last), low, True), low), 1)
        logits: Tensor = self.classifier(self.decoder(x))
        return logits


def deeplabv3plus(classes: int, backbone: str = "xception65", output_stride: int = 16) -> nn.Module:
    """DeepLabV3+.

    Args:
        classes: channels of the logits.
        backbone: "xception65", "resnet50" or "resnet101".
        output_stride: 16, or 8 with doubled rates.
    """
    if backbone == "xception65":
        return DeepLabV3Plus(Xception65(output_stride), separable, rates(output_stride), classes)
    depth = int(backbone.removeprefix("resnet"))
    return DeepLabV3Plus(ResNet(depth, *dilated(depth, output_stride)), atrous, rates(output_stride), classes)
