"""Labelled frames on disk, and which of their values means which class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from calibration.data.label_sets import LABEL_SETS, VOC, voc_colour
from calibration.judge.accuracy import IGNORE
from runtime import decode
from runtime.errors import UserError

Image = npt.NDArray[np.uint8]

IMAGES = (".jpg", ".jpeg", ".png")
CITYSCAPES_ENDINGS = ("_leftImg8bit", "_gtFine_labelTrainIds")
"""What Cityscapes appends to a frame's name, so that its images and labels pair."""

SAME = ({"pavement", "sidewalk"}, {"tree", "vegetation"}, {"sign symbol", "traffic sign"}, {"pedestrian", "person"},
        {"bicyclist", "rider"}, {"motorbike", "motorcycle"})
"""Names that mean one thing in different label sets."""


@dataclass(frozen=True)
class LabelMap:
    """Label values to class indices.

    Attributes:
        table: [256]; the class index of each value, `IGNORE` for what does not count, -1 for what must not occur.
        unused: names of the label set that the network has no class for; their pixels do not count.
    """

    table: npt.NDArray[np.int16]
    unused: tuple[str, ...] = ()


def label_map(name: str, classes: Sequence[str], ignore: int = IGNORE) -> LabelMap:
    """How a data set's label values become a network's classes.

    Args:
        name: "own" when labels count in the network's own order; a name of `LABEL_SETS`, joined to the network's
            classes by name; or a JSON file of {"value": "class name"}.
        classes: the network's, index order.
        ignore: label value of pixels that do not count.

    Raises:
        UserError: no such set, an unreadable file, or no name that the network knows.
    """
    table = np.full(256, -1, np.int16)
    named = dict(enumerate(classes)) if name == "own" else _named(name)
    unused = []
    for value, label in named.items():
        same = next((s for s in SAME if label in s), {label})
        index = next((i for i, c in enumerate(classes) if c in same), None)
        table[value] = IGNORE if index is None else index
        if index is None:
            unused.append(label)
    table[ignore] = IGNORE
    if len(unused) == len(named):
        raise UserError(f"--labels {name} shares no class with this network; expected some of {', '.join(classes)}")
    return LabelMap(table, tuple(unused))


def _named(name: str) -> dict[int, str]:
    if name in LABEL_SETS:
        return dict(enumerate(LABEL_SETS[name].names))
    path = Path(name)
    if not path.is_file():
        raise UserError(f"--labels {name} is neither a file nor known; known: own, {', '.join(LABEL_SETS)}")
    try:
        stated = decode.decoded(dict[str, str], decode.parsed(decode.read(path)))
        values = {int(value): label for value, label in stated.items()}
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is not a label map ({error}); expected JSON such as "
                        '{"0": "road", "1": "sidewalk"}') from error
    if any(not 0 <= value <= 255 for value in values):
        raise UserError(f"{path} has the label value {max(values, key=abs)}; expected 0..255")
    return values


@dataclass(frozen=True)
class Pair:
    """A frame and its label on disk."""

    name: str
    image: Path
    label: Path


def find_pairs(folder: Path) -> list[Pair]:
    """Frames of `folder/images` with their labels of `folder/labels` (both searched deeply), by name.

    Raises:
        UserError: a folder is missing or empty, or an image has no label, or a label no image.
    """
    for part in ("images", "labels"):
        if not (folder / part).is_dir():
            inner = next((p for p in ("val", "test", "train") if (folder / p / part).is_dir()), None)
            raise UserError(f"{folder} has no folder {part}; expected images/ and labels/ with the same file names",
                            try_=f"--data {folder / inner}" if inner else "")
    images, labels = ({_stem(p): p for p in sorted((folder / part).rglob("*")) if p.suffix.lower() in suffixes
                       and not p.stem.endswith(("_labelIds", "_instanceIds", "_color"))}
                      for part, suffixes in (("images", IMAGES), ("labels", (".png",))))
    if not images:
        raise UserError(f"{folder / 'images'} has no {', '.join(IMAGES)} in it; expected labelled images")
    for here, there, what in ((images, labels, "label"), (labels, images, "image")):
        if alone := sorted(here.keys() - there.keys()):
            raise UserError(f"{here[alone[0]]} has no {what} of the same name (and {len(alone) - 1} more)",
                            try_=f"ls {folder / (what + 's')}")
    return [Pair(name, images[name], labels[name]) for name in images]


def _stem(path: Path) -> str:
    stem = path.stem
    for ending in CITYSCAPES_ENDINGS:
        stem = stem.removesuffix(ending)
    return stem


def read_pairs(pairs: Sequence[Pair], mapping: LabelMap) -> Iterator[tuple[str, Image, Image]]:
    """Yield name, frame uint8 [H, W, 3] BGR, and label uint8 [H, W] in class indices with `IGNORE`.

    Raises:
        UserError: a file cannot be read, sizes differ, a label has colours or an unknown value; the file is named.
    """
    for pair in pairs:
        frame = cv2.imread(str(pair.image), cv2.IMREAD_COLOR)
        if frame is None:
            raise UserError(f"{pair.image} cannot be read as an image; expected a complete JPEG, PNG, …")
        yield pair.name, np.asarray(frame, np.uint8), _label(pair, frame.shape[:2], mapping)


def _label(pair: Pair, size: tuple[int, ...], mapping: LabelMap) -> Image:
    label = cv2.imread(str(pair.label), cv2.IMREAD_UNCHANGED)
    if label is None:
        raise UserError(f"{pair.label} cannot be read as an image; expected a PNG of class indices")
    if label.ndim == 3:
        label = _from_palette(label, pair.label)
    if label.dtype != np.uint8:
        raise UserError(f"{pair.label} holds {label.dtype}; expected one 8-bit class index per pixel")
    if label.shape != size:
        raise UserError(f"{pair.label} is {label.shape[1]}x{label.shape[0]}, its image {size[1]}x{size[0]}; "
                        "expected the same size")
    mapped = mapping.table[label]
    if (mapped < 0).any():
        raise UserError(f"{pair.label} has the label value {int(label[mapped < 0][0])}, which is no class",
                        try_="--labels with the data's label set, or --ignore VALUE")
    return np.asarray(mapped, dtype=np.uint8)


def _from_palette(label: npt.NDArray[np.generic], path: Path) -> Image:
    """Class indices of a PNG in VOC's colours (OpenCV unpacks palette PNGs, as VOC's are, into BGR)."""
    index_of = np.full(1 << 24, -1, np.int16)
    for index in range(256):
        red, green, blue = voc_colour(index)
        index_of[(red << 16) | (green << 8) | blue] = index
    b, g, r = (label[..., c].astype(np.int64) for c in range(3))
    found = index_of[(r << 16) | (g << 8) | b]
    known = (found >= 0) & ((found < len(VOC.names)) | (found == IGNORE))
    if label.dtype != np.uint8 or not known.all():
        y, x = np.argwhere(~known)[0] if not known.all() else (0, 0)
        raise UserError(f"{path} is a colour image (R, G, B = {r[y, x]}, {g[y, x]}, {b[y, x]}); expected a "
                        "single-channel PNG of class indices, or VOC's palette")
    return np.asarray(found, dtype=np.uint8)
