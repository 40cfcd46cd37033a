"""ResNet as the segmentation networks use it: no classifier, four feature maps, strides traded for dilations.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (https://arxiv.org/abs/1512.03385); names and
computation follow torchvision's ResNet, so that its state dicts fit name for name.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

COUNTS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
PLANES = (64, 128, 256, 512)

Dilations = Sequence[Sequence[int]]
"""One number per block, for each of the four stages."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the stride is in the first one, the dilation in the second one. The activation after the
    sum is left to the caller unless `activated`."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int = 1, dilation: int = 1, activated: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu, self.activated = nn.ReLU(), activated
        self.downsample = projection(inputs, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, planes, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y = y + (x if self.downsample is None else self.downsample(x))
        return self.relu(y) if self.activated else y


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; the 3x3 has the stride (torchvision's "v1.5"), or the first 1x1 where `early` (as in Caffe). The
    activation after the sum is left to the caller unless `activated`."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int = 1, dilation: int = 1, *, early: bool = False,
                 expansion: int = 4, activated: bool = True) -> None:
        super().__init__()
        outputs = planes * expansion
        self.conv1 = nn.Conv2d(inputs, planes, 1, stride if early else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1 if early else stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu, self.activated = nn.ReLU(), activated
        self.downsample = projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, expansion · planes, ⌈H/stride⌉, ⌈W/stride⌉]."""
        y: Tensor = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        y = y + (x if self.downsample is None else self.downsample(x))
        return self.relu(y) if self.activated else y


def projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The shortcut where shapes differ; None where it is the identity."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def dilated(depth: int, output_stride: int, multi_grid: tuple[int, int, int] | None = None
            ) -> tuple[tuple[int, int, int, int], Dilations]:
    """Strides and dilations of the four stages for an output stride of 8, 16 or 32.

    Without `multi_grid` the first block of a dilated stage keeps the dilation before it, as torchvision has it. With
    it, the last stage dilates by its rate times `multi_grid`, as DeepLabV3 §3.2.1 defines it.
    """
    if output_stride not in {8, 16, 32}:
        raise ValueError(f"output stride {output_stride} was asked for; ResNet can have 8, 16 or 32")
    strides = (1, 2, 2 if output_stride > 8 else 1, 2 if output_stride > 16 else 1)
    rate = 1
    plan: list[Sequence[int]] = []
    for count, stride, full in zip(COUNTS[depth], strides, (1, 2, 2, 2)):
        before, rate = rate, rate * full // stride
        plan.append((before, *[rate] * (count - 1)))
    if multi_grid is not None:
        plan[3] = tuple(rate * grid for grid in multi_grid)
    return strides, plan


class ResNet(nn.Module):
    """Float [N, 3, H, W] → the outputs of the four stages.

    Args:
        depth: 18, 50 or 101.
        strides, dilations: of the stages; see `dilated`.
        deep: three 3x3 convolutions to 128 channels instead of one 7x7 to 64 (PSPNet's stem).
        early: where a bottleneck has its stride.
        ceil: round the max-pooled size up, as Caffe does; the same at sizes of 4k+1.
    """

    def __init__(self, depth: int, strides: Sequence[int] = (1, 2, 2, 2), dilations: Dilations | None = None, *,
                 deep: bool = False, early: bool = False, ceil: bool = False) -> None:
        super().__init__()
        self.conv1 = deep_stem() if deep else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.width = 128 if deep else 64
        self.bn1 = nn.BatchNorm2d(self.width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1, ceil_mode=ceil)
        block = BasicBlock if depth == 18 else Bottleneck
        options = {"early": True} if early else {}
        plan = dilations or [[1] * count for count in COUNTS[depth]]
        stages = []
        for planes, stride, rates in zip(PLANES, strides, plan):
            blocks = []
            for index, rate in enumerate(rates):
                blocks.append(block(self.width, planes, 1 if index else stride, rate, **options))
                self.width = planes * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        initialise(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x1 = self.layer1(x)
        x2 = self.layer2(x1)
        x3 = self.layer3(x2)
        return x1, x2, x3, self.layer4(x3)


def deep_stem() -> nn.Sequential:
    """Three 3x3 convolutions; the norm and activation of the last one are the network's own `bn1`."""
    return nn.Sequential(nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                         nn.Conv2d(64, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                         nn.Conv2d(64, 128, 3, 1, 1, bias=False))


def initialise(network: nn.Module) -> None:
    """He initialisation of convolutions (fan out), zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
