"""The modified aligned Xception-65 of DeepLabV3+.

Chen et al., https://arxiv.org/abs/1802.02611, §3.1.1 and figure 4; strides, rates and norms as in Google's code
(tensorflow/models, research/deeplab/core/xception.py).
"""

from __future__ import annotations

from torch import Tensor, nn

EPS = 1e-3


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with TensorFlow's ε."""
    return nn.BatchNorm2d(channels, EPS)


def separable(inputs: int, outputs: int, stride: int, rate: int, last: bool) -> nn.Sequential:
    """3x3 depthwise and 1x1, each with a norm; ReLU before both, or after each where `last`."""
    depthwise = nn.Conv2d(inputs, inputs, 3, stride, rate, rate, groups=inputs, bias=False)
    pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
    if last:
        return nn.Sequential(depthwise, norm(inputs), nn.ReLU(), pointwise, norm(outputs), nn.ReLU())
    return nn.Sequential(nn.ReLU(), depthwise, norm(inputs), pointwise, norm(outputs))


class XceptionBlock(nn.Module):
    """Three separable convolutions, the stride in the third one, and a shortcut: "conv", "sum" or "none"."""

    def __init__(self, inputs: int, outputs: tuple[int, int, int], shortcut: str, stride: int = 1, rate: int = 1
                 ) -> None:
        super().__init__()
        widths = (inputs, *outputs)
        self.separable = nn.ModuleList(
            separable(widths[i], widths[i + 1], stride if i == 2 else 1, rate, shortcut == "none") for i in range(3))
        self.kind = shortcut
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs[2], 1, stride, bias=False), norm(outputs[2])) \
            if shortcut == "conv" else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and what enters its third convolution (V3+'s low-level features)."""
        first = self.separable[0](x)
        second = self.separable[1](first)
        y = self.separable[2](second)
        if self.kind == "none":
            return y, second
        return y + (x if self.shortcut is None else self.shortcut(x)), second


class Xception65(nn.Module):
    """Float [N, 3, H, W] → (256-channel features at stride 4, 2048-channel features at the output stride)."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        if output_stride not in {8, 16}:
            raise ValueError(f"output stride {output_stride} was asked for; Xception-65 has 8 or 16 here")
        fine = 2 if output_stride == 8 else 1  # the rate that replaces entry block 3's stride
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), norm(32), nn.ReLU(),
                                  nn.Conv2d(32, 64, 3, 1, 1, bias=False), norm(64), nn.ReLU())
        self.entry = nn.ModuleList([
            XceptionBlock(64, (128, 128, 128), "conv", 2), XceptionBlock(128, (256, 256, 256), "conv", 2),
            XceptionBlock(256, (728, 728, 728), "conv", 2 // fine)])
        self.middle = nn.ModuleList(XceptionBlock(728, (728, 728, 728), "sum", rate=fine) for _ in range(16))
        self.exit = nn.ModuleList([XceptionBlock(728, (728, 1024, 1024), "conv", rate=fine),
                                   XceptionBlock(1024, (1536, 1536, 2048), "none", rate=2 * fine)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.entry[0](self.stem(x))[0]
        x, low = self.entry[1](x)
        x = self.entry[2](x)[0]
        for block in (*self.middle, *self.exit):
            x = block(x)[0]
        return low, x
