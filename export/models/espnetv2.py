"""ESPNetv2: depthwise convolutions of growing dilation in parallel, and a decoder of efficient pyramid poolings.

Mehta et al., "ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional Neural Network", CVPR 2019
(https://arxiv.org/abs/1811.11431): §3.2 the EESP unit, §3.3 the strided one with a shortcut from the image, table 1 the
widths. Decoder and figures as in the authors' github.com/sacmehta/EdgeNets (`model/segmentation/espnetv2.py`), which
goes beyond the paper: pyramids with `align_corners=True` at strides 16, 8, 4 and 2. `REFERENCE` translates its names;
the activation that closes a strided EESP unit there is never called, and left out here (480 of 789,253 parameters).
"""

from __future__ import annotations

from math import ceil, gcd

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.models._aspp import resize
from export.models._names import NameMap
from export.spec import VOC, ModelSpec, Preprocess, Published

SPECS = tuple(
    ModelSpec(
        name=name, builder="espnetv2", options={"scale": scale}, preprocess=Preprocess((384, 384)), classes=VOC,
        stride=2, align_corners=True, multiple=16, parameters=parameters, gmacs=gmacs, counted_at=(384, 384),
        published=(
            Published("mIoU", voc, "PASCAL VOC 2012 val, 384x384", "sacmehta/EdgeNets"),
            Published("mIoU", cityscapes, "Cityscapes val, 512x1024", "sacmehta/EdgeNets"),
            *(Published("mIoU", *figure, "sacmehta/EdgeNets") for figure in tests),
            Published("GMAC", theirs, "384x384, 21 classes", "sacmehta/EdgeNets"),
            Published("parameters (M)", millions, "21 classes", "sacmehta/EdgeNets"),
        ),
        weights={} if scale == 2.0 else {
            data: (f"https://github.com/sacmehta/EdgeNets/raw/2b232d3/model/segmentation/{path}", sha256)
            for data, path, sha256 in zip(("voc", "cityscapes"), (
                f"model_zoo/espnetv2/espnetv2_s_{scale}_pascal_384x384.pth",
                f"model_zoo/espnetv2/espnetv2_s_{scale}_city_1024x512.pth"), hashes)},
        licence="MIT",
        paper="ESPNetv2: A Light-weight, Power Efficient, and General Purpose Convolutional Neural Network, CVPR 2019, "
              "arXiv:1811.11431",
        note="The authors' Cityscapes weights have a 20th class, background, that they trained with weight 0.",
    )
    for name, scale, parameters, gmacs, voc, cityscapes, theirs, millions, tests, hashes in (
        ("espnetv2", 2.0, 788_773, 0.759, 67.01, 66.4, 0.75952, 0.79, (
            (67.95, "PASCAL VOC 2012 test, 384x384"), (66.2, "Cityscapes test, 512x1024")), ()),
        ("espnetv2-s15", 1.5, 468_021, 0.482, 63.67, 63.8, 0.48263, 0.47, (), (
            "75f67549659cb5db6a8323a7595e3ce1bc3cbea7f95731105dec7a6d034b516b",
            "0dbbda9126583d62f73dfdc28a59a30ab4564094ee6d28428b897a4e36c466b4")),
        ("espnetv2-s10", 1.0, 233_797, 0.306, 60.22, 60.1, 0.306, 0.23, (), (
            "7ce2df106b62661a4e8e30098398d6b96a2a946b9546d2287500379f984301a8",
            "0918c833fed889e32901ce739b1784fdd2b79f95a9aea199a469ca3394dd7a14")),
        ("espnetv2-s05", 0.5, 80_241, 0.168, 47.18, 53.9, 0.16846, 0.08, (), (
            "3352b32b209e1e6492d1481734f5333876b28d8866f5c1702d01ec70255eb20c",
            "9412a86a30f137540ef945d08da3cb7191448956c56c41a64210dab443a9f65f")),
    )
)

REFERENCE = NameMap("sacmehta/EdgeNets", (
    (r"^base_net\.(.+br_after_cat)\.bn\.", "encoder.{1}.0."), (r"^base_net\.(.+br_after_cat)\.act\.", "encoder.{1}.1."),
    (r"^base_net\.(.+spp_dw\.\d)\.conv\.", "encoder.{1}."),
    (r"^base_net\.(.+)\.conv\.", "encoder.{1}.0."), (r"^base_net\.(.+)\.bn\.", "encoder.{1}.1."),
    (r"^base_net\.(level1|.+proj_1x1|.+inp_reinf\.0)\.act\.", "encoder.{1}.2."), (r"^base_net\.", "encoder."),
    (r"^bu_dec_l(\d)\.projection_layer\.cbr\.", "pyramids.{1-1}.project."),
    (r"^bu_dec_l(\d)\.stages\.", "pyramids.{1-1}.branches."),
    (r"^bu_dec_l(\d)\.merge_layer\.0\.br\.", "pyramids.{1-1}.gather."),
    (r"^bu_dec_l(\d)\.merge_layer\.2\.cbr\.", "pyramids.{1-1}.mix."),
    (r"^bu_dec_l(\d)\.merge_layer\.3\.", "pyramids.{1-1}.spread."),
    (r"^bu_dec_l(\d)\.br\.br\.", "pyramids.{1-1}.close."),
    (r"^merge_enc_dec_l(\d)\.wt_layer\.", "skips.{1-2}.gate."),
    (r"^merge_enc_dec_l(\d)\.expansion_layer\.cbr\.", "skips.{1-2}.expand."),
    (r"^bu_br_l(\d)\.", "joins.{1-2}."),
), dropped=(r"\.level\d_0\.eesp\.module_act\.",))

BRANCHES = 4
CHANNELS = {0.5: (16, 32, 64, 128), 1.0: (32, 64, 128, 256), 1.5: (32, 96, 192, 384), 2.0: (32, 128, 256, 512)}
"""Scale → channels of the maps at strides 2, 4, 8 and 16."""
WIDTH = 16
"""Most channels inside a pyramid; the decoder's maps have 4, 3 and 2 times as many."""
SCALES = (2.0, 1.5, 1.0, 0.5, 0.1)
SMALLEST = 5
"""A pyramid level has at least that many cells a side."""


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, PReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(outputs), nn.PReLU(outputs))


def activation(channels: int) -> nn.Sequential:
    """Batch norm, PReLU."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.PReLU(channels))


def dilations(largest: int) -> list[int]:
    """Of the parallel branches, whose kernels see 3, 5, 7 and 9 cells; what would see more than `largest` sees 3."""
    return sorted(branch + 1 if 3 + 2 * branch <= largest else 1 for branch in range(BRANCHES))


class EESP(nn.Module):
    """Extremely efficient spatial pyramid (§3.2): reduce, convolve at four dilations, add up, merge.

    Args:
        sees: cells a side that the widest branch may see.
    """

    def __init__(self, inputs: int, outputs: int, sees: int, stride: int = 1) -> None:
        super().__init__()
        inner = outputs // BRANCHES
        self.proj_1x1 = convolution(inputs, inner, 1, groups=BRANCHES)
        self.spp_dw = nn.ModuleList(nn.Conv2d(inner, inner, 3, stride, d, d, groups=inner, bias=False)
                                    for d in dilations(sees))
        self.br_after_cat = activation(outputs)
        self.conv_1x1_exp = nn.Sequential(nn.Conv2d(outputs, outputs, 1, groups=BRANCHES, bias=False),
                                          nn.BatchNorm2d(outputs))

    def merged(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, ⌈H/stride⌉, ⌈W/stride⌉]: each branch is added to the wider ones."""
        x = self.proj_1x1(x)
        sums = [self.spp_dw[0](x)]
        for branch in self.spp_dw[1:]:
            sums.append(sums[-1] + branch(x))
        y: Tensor = self.conv_1x1_exp(self.br_after_cat(torch.cat(sums, 1)))
        return y


class Residual(EESP):
    """An EESP unit with its input added: [N, C, H, W] → the same shape."""

    def __init__(self, channels: int, sees: int) -> None:
        super().__init__(channels, channels, sees)
        self.module_act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module_act(x + self.merged(x))
        return y


class DownSampler(nn.Module):
    """Strided EESP unit beside average pooling, and the image, pooled to the same size, added to both (§3.3)."""

    def __init__(self, inputs: int, outputs: int, sees: int, halvings: int) -> None:
        super().__init__()
        self.eesp = EESP(inputs, outputs - inputs, sees, stride=2)
        self.avg = nn.AvgPool2d(3, 2, 1)
        self.shrink = nn.Sequential(*(nn.AvgPool2d(3, 2, 1) for _ in range(halvings)))
        self.inp_reinf = nn.Sequential(convolution(3, 3, 3), nn.Sequential(nn.Conv2d(3, outputs, 1, bias=False),
                                                                          nn.BatchNorm2d(outputs)))
        self.act = nn.PReLU(outputs)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """[N, inputs, H, W] and the network's input → [N, outputs, ⌈H/2⌉, ⌈W/2⌉]."""
        both = torch.cat((self.avg(x), self.eesp.merged(x)), 1)
        y: Tensor = self.act(both + self.inp_reinf(self.shrink(image)))
        return y


class Encoder(nn.Module):
    """The classification network up to stride 16."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.level1 = convolution(3, first, 3, 2)
        self.level2_0 = DownSampler(first, second, 13, halvings=2)
        self.level3_0 = DownSampler(second, third, 11, halvings=3)
        self.level3 = nn.Sequential(*(Residual(third, 9) for _ in range(3)))
        self.level4_0 = DownSampler(third, fourth, 9, halvings=4)
        self.level4 = nn.Sequential(*(Residual(fourth, 7) for _ in range(7)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Float [N, 3, H, W] → the maps at strides 2, 4, 8 and 16."""
        maps = [self.level1(image)]
        maps.append(self.level2_0(maps[-1], image))
        maps.append(self.level3(self.level3_0(maps[-1], image)))
        maps.append(self.level4(self.level4_0(maps[-1], image)))
        return maps


class DepthwisePyramid(nn.Module):
    """Depthwise convolutions at five sizes of the map, shuffled together; `last` ends in logits, without a norm."""

    def __init__(self, inputs: int, inner: int, outputs: int, last: bool = False) -> None:
        super().__init__()
        self.project = convolution(inputs, inner, 1)
        self.branches = nn.ModuleList(nn.Conv2d(inner, inner, 3, 1, 1, groups=inner, bias=False) for _ in SCALES)
        self.gather = activation(inner * len(SCALES))
        self.mix = convolution(inner * len(SCALES), inner, 3, groups=inner)
        self.spread = nn.Conv2d(inner, outputs, 1, bias=last)
        self.close = nn.Identity() if last else activation(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H, W]."""
        x = self.project(x)
        branches = [self.seen(x, branch, scale) for branch, scale in zip(self.branches, SCALES)]
        together = self.gather(torch.cat(branches, 1))
        shuffled = together.unflatten(1, (len(SCALES), -1)).transpose(1, 2).flatten(1, 2)
        y: Tensor = self.close(self.spread(self.mix(shuffled)))
        return y

    @staticmethod
    def seen(x: Tensor, branch: nn.Module, scale: float) -> Tensor:
        """`branch` over the map at `scale`: enlarged between cells and pooled back, or pooled and enlarged back."""
        height, width = x.shape[2:]
        size = max(ceil(height * scale), SMALLEST), max(ceil(width * scale), SMALLEST)
        if scale > 1:
            larger = F.interpolate(x, size, mode="bilinear", align_corners=True)
            return F.adaptive_avg_pool2d(branch(larger), (height, width))
        y: Tensor = branch(F.adaptive_avg_pool2d(x, size) if scale < 1 else x)
        return resize(y, x, True) if scale < 1 else y


class Skip(nn.Module):
    """An encoder's map for the decoder: a grouped convolution, each channel scaled by a gate over the whole map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, outputs, 1, bias=False), nn.Sigmoid())
        self.expand = convolution(inputs, outputs, 3, groups=gcd(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H, W]."""
        return self.expand(x) * self.gate(x)  # type: ignore[no-any-return]


class ESPNetv2(nn.Module):
    """Encoder, and four pyramids on the way back up, between which the encoder's maps are added."""

    def __init__(self, classes: int, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.encoder = Encoder(channels)
        inner = min(classes // 2, WIDTH)
        widths = (4 * WIDTH, 3 * WIDTH, 2 * WIDTH)
        self.pyramids = nn.ModuleList([
            *(DepthwisePyramid(inputs, inner, outputs) for inputs, outputs in zip((channels[3], *widths), widths)),
            DepthwisePyramid(widths[-1], inner, classes, last=True)])
        self.skips = nn.ModuleList(Skip(inputs, outputs) for inputs, outputs in zip(channels[2::-1], widths))
        self.joins = nn.ModuleList(activation(width) for width in widths)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, 3, H, W] → logits [N, classes, H/2, W/2]."""
        *fine, coarse = self.encoder(x)
        y: Tensor = self.pyramids[0](coarse)
        for partner, skip, join, pyramid in zip(reversed(fine), self.skips, self.joins, self.pyramids[1:]):
            y = pyramid(join(skip(partner) + resize(y, partner, True)))
        return y


def espnetv2(classes: int, scale: float) -> nn.Module:
    """ESPNetv2 at a scale of `CHANNELS`."""
    return ESPNetv2(classes, CHANNELS[scale])
