"""DFANet: three chained lightweight backbones whose features are aggregated on every level.

Li, Xiong, Fan, Sun: "DFANet: Deep Feature Aggregation for Real-Time Semantic Segmentation", CVPR 2019
(https://arxiv.org/abs/1904.02216): §3.2 and figure 2 the aggregation, §3.3 and table 1 the backbones, the attention
and the decoder. The authors published no code; github.com/huaifeng1993/DFANet is the best-known port.

Where paper and ports leave a choice:
- The stride lies in the first convolution of a stage. At 1024x1024 the backbones then count 1.66 and 0.845 GMAC
  beside the paper's 1.6 and 0.83, the networks 3.29 and 1.87 (19 classes) beside its 3.4 and 2.1.
- The attention vector multiplies as it comes from the 1x1 convolution: the paper names no batch norm or activation
  there. It starts at 1, so that training from scratch begins with the plain features.
- The decoder reduces to 64 channels; the ports use 32, and the best-known one ends in a batch norm and a ReLU over the
  logits. Its checkpoints are therefore of another network, and no table of names could make them this one's.
- Maps are upsampled to the size of the map that they join, which is the paper's factor wherever sizes divide evenly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.spec import CAMVID, ModelSpec, Preprocess, Published

SPECS = tuple(
    ModelSpec(
        name=f"dfanet-{variant}", builder="dfanet", options={"variant": variant}, preprocess=Preprocess((360, 480)),
        classes=CAMVID, stride=4, align_corners=False, multiple=4, parameters=parameters, gmacs=gmacs,
        counted_at=(1024, 1024), published=tuple(
            Published(metric, value, conditions, "DFANet paper")
            for metric, value, conditions in published),
        licence="none (the authors published no code; this is our own)",
        paper="DFANet: Deep Feature Aggregation for Real-Time Semantic Segmentation, CVPR 2019, arXiv:1904.02216",
        note="The published parameter count cannot be had together with the published GFLOPs: the network of "
             f"the paper's table 1, built literally, has {parameters / 1e6:.1f} M and meets the GFLOPs within {share}.",
    )
    for variant, parameters, gmacs, share, published in (
        ("a", 1_857_123, 3.257, "4 %", (
            ("mIoU", 71.3, "Cityscapes test, 1024x1024"), ("mIoU", 70.3, "A': Cityscapes test, 512x1024"),
            ("mIoU", 64.7, "CamVid test, 720x960"), ("FPS", 100, "1024x1024, Titan X"),
            ("FPS", 160, "A': 512x1024, Titan X"), ("GFLOPs", 3.4, "1024x1024"), ("GFLOPs", 1.7, "A': 512x1024"),
            ("parameters (M)", 7.8, "Cityscapes"))),
        ("b", 1_118_467, 1.836, "11 %", (
            ("mIoU", 67.1, "Cityscapes test, 1024x1024"), ("mIoU", 59.3, "CamVid test, 720x960"),
            ("FPS", 120, "1024x1024, Titan X"), ("GFLOPs", 2.1, "1024x1024"), ("parameters (M)", 4.8, "Cityscapes"))),
    )
)

CHANNELS = {"a": (48, 96, 192), "b": (32, 64, 128)}
"""Output channels of enc2, enc3 and enc4 (table 1); the inner convolutions of a block have a quarter of them."""
REPEATS = (4, 6, 4)
IMAGENET_CLASSES = 1000
DECODER_CHANNELS = 64


def convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
                         nn.BatchNorm2d(outputs), nn.ReLU())


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """ReLU, 3x3 depthwise and 1x1 convolution, each with batch norm (Xception's order: the activation comes first)."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
                         nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


class DFANetBlock(nn.Module):
    """Three separable convolutions beside a shortcut; the first one carries the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = outputs // 4
        self.body = nn.Sequential(separable(inputs, inner, stride), separable(inner, inner), separable(inner, outputs))
        self.shortcut = nn.Identity() if stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]."""
        shortcut: Tensor = self.shortcut(x)
        return shortcut + self.body(x)  # type: ignore[no-any-return]


def stage(inputs: int, outputs: int, repeats: int) -> nn.Sequential:
    """One enc: halves height and width."""
    return nn.Sequential(DFANetBlock(inputs, outputs, 2),
                         *(DFANetBlock(outputs, outputs, 1) for _ in range(repeats - 1)))


class Attention(nn.Module):
    """fc attention (§3.3): the ImageNet classifier kept as a context vector, brought back to the features' channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, IMAGENET_CLASSES, 1)  # a linear layer on a 1x1 map, without reshaping
        self.reduce = nn.Conv2d(IMAGENET_CLASSES, channels, 1)

    def classify(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, 1000, 1, 1]."""
        scores: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1))
        return scores

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        return x * self.reduce(self.classify(x))  # type: ignore[no-any-return]


class DFANetBackbone(nn.Module):
    """Xception A or B without its stem; `joined` are the channels of an earlier backbone's enc2, enc3 and enc4."""

    def __init__(self, inputs: int, channels: tuple[int, int, int], joined: tuple[int, int, int] = (0, 0, 0)) -> None:
        super().__init__()
        enc2, enc3, enc4 = channels
        self.enc2 = stage(inputs + joined[0], enc2, REPEATS[0])
        self.enc3 = stage(enc2 + joined[1], enc3, REPEATS[1])
        self.enc4 = stage(enc3 + joined[2], enc4, REPEATS[2])
        self.attention = Attention(enc4)

    def stages(self, x: Tensor, earlier: tuple[Tensor, ...] = ()) -> tuple[Tensor, ...]:
        """enc2, enc3 and enc4; `earlier` are those of the backbone before, each joined to the input of the same."""
        maps: list[Tensor] = []
        for index, encode in enumerate((self.enc2, self.enc3, self.enc4)):
            x = encode(torch.cat((x, earlier[index]), 1) if earlier else x)
            maps.append(x)
        return tuple(maps)


class Classifier(nn.Module):
    """The backbone as it is trained on ImageNet: [N, 3, H, W] → [N, 1000]."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = convolution(3, 8, 3, 2)
        self.backbone = DFANetBackbone(8, channels)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        enc4 = self.backbone.stages(self.stem(x))[-1]
        return self.backbone.attention.classify(enc4).flatten(1)


class DFANet(nn.Module):
    """Three backbones in a row, each refining the one before, and a decoder that adds up what all of them saw."""

    def __init__(self, classes: int, channels: tuple[int, int, int]) -> None:
        super().__init__()
        enc2, _, enc4 = channels
        self.stem = convolution(3, 8, 3, 2)
        self.backbones = nn.ModuleList([DFANetBackbone(8, channels), DFANetBackbone(enc4, channels, joined=channels),
                                        DFANetBackbone(enc4, channels, joined=channels)])
        self.low = nn.ModuleList(convolution(enc2, DECODER_CHANNELS) for _ in range(3))
        self.high = nn.ModuleList(convolution(enc4, DECODER_CHANNELS) for _ in range(3))
        self.merge = convolution(DECODER_CHANNELS, DECODER_CHANNELS)
        self.classify = nn.Conv2d(DECODER_CHANNELS, classes, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, 3, H, W] → logits [N, classes, H/4, W/4]; the last upsampling by 4 is left to the caller."""
        x = self.stem(x)
        maps: tuple[Tensor, ...] = ()
        low, high = [], []
        for backbone in self.backbones:
            maps = backbone.stages(x, maps)  # type: ignore[operator]
            context = backbone.attention(maps[-1])  # type: ignore[operator]
            low.append(maps[0])
            high.append(context)
            x = upsample(context, maps[0])
        details = [upsample(reduce(y), low[0]) for reduce, y in zip(self.low, low)]
        contexts = [upsample(reduce(y), low[0]) for reduce, y in zip(self.high, high)]
        merged = self.merge(details[0] + details[1] + details[2]) + contexts[0] + contexts[1] + contexts[2]
        logits: Tensor = self.classify(merged)
        return logits


def upsample(x: Tensor, partner: Tensor) -> Tensor:
    """Bilinear, to the height and width of `partner`."""
    if x.shape[2:] == partner.shape[2:]:
        return x
    return F.interpolate(x, size=partner.shape[2:], mode="bilinear", align_corners=False)


def initialise(network: nn.Module) -> None:
    """He initialisation for what a ReLU follows, small weights for the classifiers, an attention that starts at 1, and
    blocks that start as their shortcuts (Goyal et al., arXiv:1706.02677, §5.1): the last batch norm's weight is 0.

    Without the last, the gradients of a new network of 42 blocks in a row explode, and bfloat16's have nothing in
    common with float32's.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, Attention):
            nn.init.ones_(module.reduce.bias)  # type: ignore[arg-type]
        elif isinstance(module, DFANetBlock):
            nn.init.zeros_(module.body[-1][-1].weight)  # type: ignore[index]


def dfanet(classes: int, variant: str = "a", backbone: bool = False) -> nn.Module:
    """DFANet A or B.

    Args:
        classes: channels of the logits.
        variant: "a" or "b": Xception A or B as backbone.
        backbone: build the backbone's ImageNet classifier instead, [N, 3, H, W] → [N, 1000].
    """
    return Classifier(CHANNELS[variant]) if backbone else DFANet(classes, CHANNELS[variant])
