"""What DDRNet and PIDNet are built from: residual blocks that may end before their activation, context pooled at five
scales, and a head that normalises first. Names are those of both reference implementations.

Hong, Pan, Sun, Jia: "Deep Dual-resolution Networks for Real-time and Accurate Semantic Segmentation of Road Scenes"
(https://arxiv.org/abs/2101.06085), §III.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from export.models._resnet import BasicBlock, Bottleneck


def bottleneck(inputs: int, planes: int, stride: int = 1) -> Bottleneck:
    """1x1, 3x3 and 1x1 convolution to twice as many channels, and a shortcut; no activation after their sum."""
    return Bottleneck(inputs, planes, stride, expansion=2, activated=False)


def stage(inputs: int, planes: int, count: int, stride: int = 1) -> nn.Sequential:
    """`count` basic blocks, of which the last one ends before its activation."""
    return nn.Sequential(*(BasicBlock(planes if index else inputs, planes, 1 if index else stride,
                                      activated=index < count - 1) for index in range(count)))


def stem(planes: int) -> nn.Sequential:
    """Two 3x3 convolutions of stride 2, float [N, 3, H, W] → [N, planes, ⌈H/4⌉, ⌈W/4⌉]."""
    return nn.Sequential(nn.Conv2d(3, planes, 3, 2, 1), nn.BatchNorm2d(planes), nn.ReLU(),
                         nn.Conv2d(planes, planes, 3, 2, 1), nn.BatchNorm2d(planes), nn.ReLU())


def normed(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


def preactivated(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> tuple[nn.Module, ...]:
    """Batch norm, ReLU, convolution."""
    return (nn.BatchNorm2d(inputs), nn.ReLU(),
            nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, groups=groups, bias=False))


def scales(inputs: int, outputs: int) -> nn.ModuleList:
    """The map itself, its averages over growing windows at a half, a quarter, an eighth of its size, and its mean."""
    pools = (nn.AvgPool2d(5, 2, 2), nn.AvgPool2d(9, 4, 4), nn.AvgPool2d(17, 8, 8), nn.AdaptiveAvgPool2d(1))
    return nn.ModuleList([nn.Sequential(*preactivated(inputs, outputs)),
                          *(nn.Sequential(pool, *preactivated(inputs, outputs)) for pool in pools)])


def head(inputs: int, middle: int, classes: int) -> nn.Sequential:
    """3x3 convolution and classifier, each after batch norm and ReLU."""
    return nn.Sequential(OrderedDict(
        bn1=nn.BatchNorm2d(inputs), relu1=nn.ReLU(), conv1=nn.Conv2d(inputs, middle, 3, 1, 1, bias=False),
        bn2=nn.BatchNorm2d(middle), relu2=nn.ReLU(), conv2=nn.Conv2d(middle, classes, 1)))
