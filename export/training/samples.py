"""Training data in memory, and what training does to it before the network sees it.

A folder holds `train/` and `val/`, each with `images/` (JPEG or PNG) and `labels/` (single-channel PNG, one class index
per pixel, 255 for none), paired by their file stem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.judge.accuracy import IGNORE
from runtime.errors import UserError

Image = npt.NDArray[np.uint8]

LABEL_STEP = 2
"""Labels are drawn at every second pixel: the loss costs a quarter, and logits come at stride 4 or 8 anyway."""


@dataclass(frozen=True)
class Sample:
    """One labelled frame: image uint8 [H, W, 3] RGB, label uint8 [H, W]."""

    stem: str
    image: Image
    label: Image


def load_samples(folder: Path, classes: int) -> list[Sample]:
    """Read all pairs of `folder/images` and `folder/labels`, sorted by stem.

    Raises:
        UserError: no images, a label is missing, has another size, more than one channel or an unknown value.
    """
    import cv2

    images = sorted(p for p in (folder / "images").glob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not images:
        raise UserError(f"{folder / 'images'} has no JPEG or PNG images; expected DIR/train and DIR/val, "
                        "each with images/ and labels/")
    samples = []
    for path in images:
        image, target = cv2.imread(str(path)), folder / "labels" / f"{path.stem}.png"
        label = cv2.imread(str(target), cv2.IMREAD_UNCHANGED) if target.is_file() else None
        if image is None or label is None:
            raise UserError(f"{path if image is None else target} is missing or cannot be read; expected an image and "
                            "labels/ with a PNG of the same name")
        if label.ndim != 2 or label.dtype != np.uint8 or label.shape != image.shape[:2]:
            raise UserError(f"{target} is {label.dtype} {label.shape}; expected single-channel uint8 of the "
                            f"image's size {image.shape[:2]}")
        if (unknown := np.setdiff1d(label, [*range(classes), IGNORE])).size:
            raise UserError(f"{target} has the label value {unknown[0]}; expected 0..{classes - 1} or {IGNORE}")
        samples.append(Sample(path.stem, _bytes(image[..., ::-1]), _bytes(label)))
    return samples


def _bytes(x: npt.NDArray[Any]) -> Image:
    return np.ascontiguousarray(x, dtype=np.uint8)


def frequencies(samples: Sequence[Sample], classes: int) -> npt.NDArray[np.float64]:
    """Share of each class among the labelled pixels, [classes]."""
    counts = sum(np.bincount(s.label.ravel(), minlength=IGNORE + 1)[:classes].astype(float) for s in samples)
    return np.asarray(counts / np.sum(counts))


def augment(sample: Sample, crop: tuple[int, int], balanced: float,
            rng: np.random.Generator) -> tuple[Image, Image]:
    """A random view of a frame: scale, width to height, rotation, mirror, place and colours.

    Args:
        sample: the frame.
        crop: (H, W) of the view.
        balanced: share of the views that are centred on a pixel of a class drawn evenly among those present. They show
            the rare ones; too many of them, and a network sees rare classes everywhere on streets it does not know.
        rng: source of all that is random.

    Returns:
        Image uint8 [*crop, 3] and label uint8 [*crop / LABEL_STEP]; what lies outside the frame is `IGNORE`.
    """
    import cv2

    height, width = sample.label.shape
    scale = np.exp(rng.uniform(np.log(0.6), np.log(1.8)))
    wider = np.exp(rng.normal(0, 0.12))  # cameras of 16:9 are squeezed into 4:3, and the other way round
    angle = np.radians(rng.normal(0, 3))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    if rng.random() < balanced:
        present = np.setdiff1d(sample.label, IGNORE)
        place = rng.choice(np.flatnonzero(sample.label.ravel() == rng.choice(present)))
        y, x = place // width + rng.normal(0, 30), place % width + rng.normal(0, 30)
    # Far from the border only what the crop can reach: a small frame under a large crop is centred.
    down, across = scale / wider, scale * wider
    y, x = _inside(y, crop[0] / down, height), _inside(x, crop[1] / across, width)
    linear = np.array([[np.cos(angle) * flip, -np.sin(angle)], [np.sin(angle) * flip, np.cos(angle)]])
    linear = linear / np.array([across, down])
    middle = np.array([crop[1] - 1, crop[0] - 1]) / 2
    image = _warped(sample.image, linear, np.array([x, y]) - linear @ middle, crop, cv2.INTER_LINEAR, (124, 116, 104))
    linear, middle = linear * LABEL_STEP, (middle - (LABEL_STEP - 1) / 2) / LABEL_STEP
    small = (crop[0] // LABEL_STEP, crop[1] // LABEL_STEP)
    label = _warped(sample.label, linear, np.array([x, y]) - linear @ middle, small, cv2.INTER_NEAREST, (IGNORE,))
    return _recoloured(image, rng), label


def _inside(centre: float, side: float, whole: int) -> float:
    """`centre` moved so that a window of `side` stays inside `whole`, or to the middle where it cannot."""
    return min(max(centre, side / 2), whole - side / 2) if side < whole else whole / 2


def _warped(source: Image, linear: npt.NDArray[np.float64], offset: npt.NDArray[np.float64], size: tuple[int, int],
            interpolation: int, border: tuple[int, ...]) -> Image:
    import cv2

    matrix = np.column_stack([linear, offset])  # from target to source pixels
    return np.asarray(cv2.warpAffine(source, matrix, (size[1], size[0]), flags=interpolation | cv2.WARP_INVERSE_MAP,
                                     borderMode=cv2.BORDER_CONSTANT, borderValue=border), dtype=np.uint8)


def _recoloured(image: Image, rng: np.random.Generator) -> Image:
    """Random gamma, saturation, contrast, brightness and tint."""
    import cv2

    curve = 255 * (np.arange(256) / 255) ** np.exp(rng.normal(0, 0.2))
    x = cv2.LUT(image, curve.astype(np.float32))
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., np.newaxis]
    saturation, contrast = rng.uniform(0.6, 1.4, 2)
    tint = (rng.uniform(0.7, 1.35) * rng.uniform(0.93, 1.07, 3)).astype(np.float32)
    x = (grey + np.float32(saturation) * (x - grey)) * tint
    mean = x.mean()
    return np.asarray(np.clip(mean + np.float32(contrast) * (x - mean), 0, 255), dtype=np.uint8)
