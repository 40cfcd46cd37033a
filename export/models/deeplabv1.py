"""DeepLab v1, "LargeFOV": VGG-16 made fully convolutional at output stride 8 by atrous convolutions.

Chen, Papandreou, Kokkinos, Murphy, Yuille: "Semantic Image Segmentation with Deep Convolutional Nets and Fully
Connected CRFs", ICLR 2015 (https://arxiv.org/abs/1412.7062): §3.1 the atrous convolutions, §3.2 and §5.2 the large
field of view. Pooling as in the authors' Caffe network (DeepLab-LargeFOV): windows of 3 so that cells stay aligned,
the last two maxima without stride, and an average after them. The CRF is `--refine crf` of the runtime.

`features` has the indices of torchvision's VGG-16, so that its ImageNet weights fit up to the last convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from export.models._resnet import initialise
from export.spec import VOC, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="deeplabv1", builder="deeplabv1", classes=VOC, stride=8, align_corners=True, multiple=1,
        preprocess=Preprocess((513, 513), mean=(104.008 / 255, 116.669 / 255, 122.675 / 255), std=(1 / 255,) * 3,
                              colour_order="bgr"),
        parameters=20_505_429, gmacs=128.585, counted_at=(513, 513),
        published=(
            Published("mIoU", 62.25, "VOC 2012 val, DeepLab-LargeFOV without CRF", "paper, table 1"),
            Published("mIoU", 67.64, "VOC 2012 val, with CRF", "paper, table 1"),
            Published("parameters (M)", 20.5, "LargeFOV", "paper, table 2"),
        ),
        licence="none stated (the authors' Caffe network; this is our own code)",
        paper="Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs, ICLR 2015, "
              "arXiv:1412.7062",
        note="Sizes of 8k+1 put a logit exactly on every corner."),
)

VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of the 3x3 convolutions, one tuple per pooling."""


def features() -> nn.Sequential:
    """VGG-16 up to its fifth pooling; block 5 dilates by 2 because the fourth pooling no longer strides."""
    layers: list[nn.Module] = []
    inputs = 3
    for index, block in enumerate(VGG16):
        rate = 2 if index == 4 else 1
        for outputs in block:
            layers += [nn.Conv2d(inputs, outputs, 3, 1, rate, rate), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(3, 2 if index < 3 else 1, 1, ceil_mode=True))  # Caffe rounds sizes up
    return nn.Sequential(*layers, nn.AvgPool2d(3, 1, 1))


class DeepLabV1(nn.Module):
    """Float BGR [N, 3, H, W] → logits [N, classes, ⌈H/8⌉, ⌈W/8⌉] (exactly k+1 cells at a size of 8k+1)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = features()
        self.fc6 = nn.Conv2d(512, 1024, 3, 1, 12, 12)  # the large field of view: 3x3 at rate 12 in place of 7x7
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.fc8 = nn.Conv2d(1024, classes, 1)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.5)
        initialise(self)
        nn.init.normal_(self.fc8.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.relu(self.fc6(self.features(x))))
        logits: Tensor = self.fc8(self.dropout(self.relu(self.fc7(x))))
        return logits


def deeplabv1(classes: int) -> nn.Module:
    """DeepLab-LargeFOV on VGG-16."""
    return DeepLabV1(classes)
