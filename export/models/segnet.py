"""SegNet: VGG-16 without its fully connected layers, and its mirror image, which puts values where maxima were.

Badrinarayanan, Kendall, Cipolla: "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation",
PAMI 2017 (https://arxiv.org/abs/1511.00561): §3 and figure 2. As in the authors' Caffe network, each of the 26
convolutions but the last has a batch norm and a ReLU. `REFERENCE` translates the names of delta-onera/segnet_pytorch,
the port that is this network; the one in pytorch-semseg has a batch norm and a ReLU over its logits. Unpooling by
index is expressed here in operators that every engine has (`export.models._unpool`).
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn

from export.models._names import NameMap
from export.models._resnet import initialise
from export.models._unpool import pool, unpool
from export.spec import CAMVID, ModelSpec, Preprocess, Published

SPECS = (
    ModelSpec(
        name="segnet", builder="SegNet", preprocess=Preprocess((352, 480)), classes=CAMVID, stride=1,
        align_corners=False, multiple=32, parameters=29_449_355, gmacs=138.845, counted_at=(352, 640),
        published=(
            Published("mIoU", 60.1, "CamVid test, 360x480, trained on 3.5K frames", "paper"),
            Published("mIoU", 56.1, "Cityscapes test", "ENet paper, table 4"),
            Published("FPS", 14.6, "360x640, Titan X", "ENet paper, table 2"),
            Published("GFLOPs", 286.03, "360x640", "ENet paper, table 3"),
            Published("parameters (M)", 29.46, "CamVid", "ENet paper, table 3"),
        ),
        licence="none stated for the network (this is our own code)",
        paper="SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation, PAMI 2017, "
              "arXiv:1511.00561",
        note="Logits have the input's size. Mean and std are ImageNet's, from which the encoder is meant to start."),
)

REFERENCE = NameMap("delta-onera/segnet_pytorch", (
    (r"^conv11d\.", "classifier."),
    (r"^conv(\d)(\d)d\.", "up.{1-1}.{2}.0."), (r"^bn(\d)(\d)d\.", "up.{1-1}.{2}.1."),
    (r"^conv(\d)(\d)\.", "down.{1-1}.{2}.0."), (r"^bn(\d)(\d)\.", "down.{1-1}.{2}.1."),
))

STAGES = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
"""VGG-16: channels before and after each convolution of a stage."""


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs), nn.ReLU())


class SegNet(nn.Module):
    """Five stages down, five up (figure 2)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for channels in STAGES:
            pairs = [(str(place), pair) for place, pair in enumerate(pairwise(channels), 1)]
            self.down.append(nn.Sequential(OrderedDict((place, convolution(*pair)) for place, pair in pairs)))
            self.up.append(nn.Sequential(OrderedDict(
                (place, convolution(outputs, inputs)) for place, (inputs, outputs) in reversed(pairs) if inputs != 3)))
        self.classifier = nn.Conv2d(64, classes, 3, 1, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, 3, H, W] → logits [N, classes, H, W]."""
        places: list[Tensor] = []
        for stage in self.down:
            x, place = pool(stage(x))
            places.append(place)
        for stage in reversed(self.up):
            x = stage(unpool(x, places.pop()))
        logits: Tensor = self.classifier(x)
        return logits
