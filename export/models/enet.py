"""ENet: an encoder of bottlenecks that shrinks the image early, and a small decoder that remembers where maxima were.

Paszke, Chaurasia, Kim, Culurciello: "ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation",
2016 (https://arxiv.org/abs/1606.02147): §3 and table 1 the network, figure 2 the bottleneck. Computation as in
github.com/davidtvs/PyTorch-ENet (`models/enet.py`), the best-known port of the authors' Lua code: PReLU with one slope
per layer in the encoder, ReLU in the decoder. `REFERENCE` translates its names. Its unpooling by index is expressed
here in operators that every engine has (`export.models._unpool`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.models._names import NameMap
from export.models._unpool import pool, unpool
from export.spec import CAMVID, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="enet", builder="ENet", preprocess=Preprocess((360, 480), mean=(0, 0, 0), std=(1, 1, 1)), classes=CAMVID,
        stride=1, align_corners=False, multiple=8, parameters=350_508, gmacs=1.708, counted_at=(360, 640),
        published=(
            Published("mIoU", 58.3, "Cityscapes test, 512x1024", "paper, table 4"),
            Published("mIoU", 51.3, "CamVid test, 360x480", "paper, table 5"),
            Published("mIoU", 59.5, "Cityscapes val, 512x1024", "davidtvs/PyTorch-ENet"),
            Published("mIoU", 52.1, "CamVid test, 360x480", "davidtvs/PyTorch-ENet"),
            Published("FPS", 135.4, "360x640, Titan X", "paper, table 2"),
            Published("GFLOPs", 3.83, "360x640", "paper, table 3"),
            Published("parameters (M)", 0.37, "Cityscapes", "paper, table 3"),
        ),
        licence="MIT",
        paper="ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation, 2016, arXiv:1606.02147",
        note="The last layer is a learned upsampling, so that logits have the input's size."),
)

REFERENCE = NameMap("davidtvs/PyTorch-ENet", (
    (r"^(?:regular|dilated|asymmetric)3_(\d)\.", "stage3.{1}."),
    (r"^(?:regular|dilated|asymmetric)(\d)_(\d)\.", "stage{1}.{2-1}."),
    (r"^downsample(\d)_0\.", "down{1}."), (r"^upsample(\d)_0\.", "up{1}."),
    (r"^transposed_conv\.", "classifier."),
))

PLAN = (("regular", 1), ("dilated", 2), ("asymmetric", 5), ("dilated", 4),
        ("regular", 1), ("dilated", 8), ("asymmetric", 5), ("dilated", 16))
"""Stages 2 and 3: kind of each bottleneck; its dilation, or the length of its two kernels."""


def convolution(inputs: int, outputs: int, kernel: int | tuple[int, int], activation: type[nn.Module], stride: int = 1,
                dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm, activation; size kept at stride 1."""
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (rows // 2 * dilation, columns // 2 * dilation) if stride == 1 else 0
    return nn.Sequential(nn.Conv2d(inputs, outputs, (rows, columns), stride, padding, dilation, bias=False),
                         nn.BatchNorm2d(outputs), activation())


class Initial(nn.Module):
    """The image convolved to 13 channels, and its maxima (figure 2a): [N, 3, H, W] → [N, 16, H/2, W/2]."""

    def __init__(self) -> None:
        super().__init__()
        self.main_branch = nn.Conv2d(3, 13, 3, 2, 1, bias=False)
        self.ext_branch = nn.MaxPool2d(3, 2, 1)
        self.batch_norm = nn.BatchNorm2d(16)
        self.out_activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out_activation(self.batch_norm(torch.cat((self.main_branch(x), self.ext_branch(x)), 1)))
        return y


class ENetBottleneck(nn.Module):
    """Shrink, convolve, widen, beside a shortcut (figure 2b): [N, C, H, W] → the same shape."""

    def __init__(self, channels: int, activation: type[nn.Module], dropout: float, kind: str = "regular",
                 extent: int = 1) -> None:
        super().__init__()
        inner = channels // 4
        self.ext_conv1 = convolution(channels, inner, 1, activation)
        self.ext_conv2 = (
            nn.Sequential(*convolution(inner, inner, (extent, 1), activation),
                          *convolution(inner, inner, (1, extent), activation)) if kind == "asymmetric"
            else convolution(inner, inner, 3, activation, dilation=extent))
        self.ext_conv3 = convolution(inner, channels, 1, activation)
        self.ext_regul = nn.Dropout2d(dropout)
        self.out_activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out_activation(x + self.ext_regul(self.ext_conv3(self.ext_conv2(self.ext_conv1(x)))))
        return y


class Down(nn.Module):
    """A bottleneck that halves the map beside max pooling, whose missing channels are zero."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        inner = inputs // 4
        self.ext_conv1 = convolution(inputs, inner, 2, nn.PReLU, stride=2)
        self.ext_conv2 = convolution(inner, inner, 3, nn.PReLU)
        self.ext_conv3 = convolution(inner, outputs, 1, nn.PReLU)
        self.ext_regul = nn.Dropout2d(dropout)
        self.out_activation = nn.PReLU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, inputs, H, W] → [N, outputs, H/2, W/2], and where the maxima were."""
        highest, places = pool(x)
        y = self.ext_regul(self.ext_conv3(self.ext_conv2(self.ext_conv1(x))))
        channels = highest.shape[1]
        return self.out_activation(torch.cat((highest + y[:, :channels], y[:, channels:]), 1)), places


class Up(nn.Module):
    """A bottleneck that doubles the map beside values put back to where the maxima were."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        inner = inputs // 4
        self.main_conv1 = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.ext_conv1 = convolution(inputs, inner, 1, nn.ReLU)
        self.ext_tconv1 = nn.ConvTranspose2d(inner, inner, 2, 2, bias=False)
        self.ext_tconv1_bnorm = nn.BatchNorm2d(inner)
        self.ext_conv2 = nn.Sequential(nn.Conv2d(inner, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.ext_regul = nn.Dropout2d(dropout)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """[N, inputs, h, w] → [N, outputs, 2h, 2w]."""
        y = F.relu(self.ext_tconv1_bnorm(self.ext_tconv1(self.ext_conv1(x))))
        return F.relu(unpool(self.main_conv1(x), places) + self.ext_regul(self.ext_conv2(y)))


class ENet(nn.Module):
    """The whole network (table 1)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.initial_block = Initial()
        self.down1 = Down(16, 64, 0.01)
        self.stage1 = nn.Sequential(*(ENetBottleneck(64, nn.PReLU, 0.01) for _ in range(4)))
        self.down2 = Down(64, 128, 0.1)
        self.stage2 = nn.Sequential(*(ENetBottleneck(128, nn.PReLU, 0.1, *kind) for kind in PLAN))
        self.stage3 = nn.Sequential(*(ENetBottleneck(128, nn.PReLU, 0.1, *kind) for kind in PLAN))
        self.up4 = Up(128, 64, 0.1)
        self.stage4 = nn.Sequential(*(ENetBottleneck(64, nn.ReLU, 0.1) for _ in range(2)))
        self.up5 = Up(64, 16, 0.1)
        self.stage5 = nn.Sequential(ENetBottleneck(16, nn.ReLU, 0.1))
        self.classifier = nn.ConvTranspose2d(16, classes, 3, 2, 1, output_padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, 3, H, W] → logits [N, classes, H, W]."""
        x, fine = self.down1(self.initial_block(x))
        x, coarse = self.down2(self.stage1(x))
        x = self.stage4(self.up4(self.stage3(self.stage2(x)), coarse))
        logits: Tensor = self.classifier(self.stage5(self.up5(x, fine)))
        return logits
