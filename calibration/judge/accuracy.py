"""How right masks are: confusion, IoU, boundary IoU, and how sure those figures are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from calibration.judge import bootstrap

IGNORE = 255
"""The usual label of pixels without a class."""

BOUNDARY_WIDTH = 0.02
"""Width of the boundary band as a share of the frame's diagonal (Cheng et al., CVPR 2021, §4)."""

Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.uint8]


def confusion(label: Mask, predicted: Mask, classes: int, ignore: int = IGNORE) -> Counts:
    """Count pixels by true and predicted class.

    Args:
        label: [H, W], 0..classes-1 or `ignore`.
        predicted: [H, W], 0..classes-1.
        classes: number of classes C.
        ignore: label of pixels that do not count.

    Returns:
        [C, C]; rows are true classes, columns predicted ones.
    """
    valid = label != ignore
    pairs = label[valid].astype(np.int64) * classes + predicted[valid]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def iou(counts: Counts) -> npt.NDArray[np.float64]:
    """Intersection over union of each class, 0..1; NaN for a class neither labelled nor predicted anywhere.

    Args:
        counts: [..., C, C].

    Returns:
        [..., C].
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return _ratio(hits, counts.sum(-1) + counts.sum(-2) - hits)


def miou(counts: Counts) -> float:
    """Mean of `iou` over the classes that occur, 0..1."""
    return float(np.nanmean(iou(counts)))


def pixel_accuracy(counts: Counts) -> float:
    """Share of counted pixels with the right class, 0..1."""
    return float(np.trace(counts) / counts.sum())


def boundary_counts(label: Mask, predicted: Mask, classes: int, ignore: int = IGNORE) -> Counts:
    """Pixels of each class that lie near its outline, in both masks and in either.

    Boundary IoU (Cheng et al., "Boundary IoU", CVPR 2021, equation 2) compares only the band of `BOUNDARY_WIDTH`
    inside each outline. The frame's edge belongs to the outline, as in the authors' code; where a class borders on
    pixels without a label there is none, and those pixels do not count.

    Args:
        label: [H, W], 0..classes-1 or `ignore`.
        predicted: [H, W], 0..classes-1.
        classes: number of classes C.
        ignore: label of pixels that do not count.

    Returns:
        [C, 2]: intersection and union in pixels.
    """
    width = max(round(BOUNDARY_WIDTH * float(np.hypot(*label.shape))), 1)
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    unknown = label == ignore

    def band(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        filled = (mask | unknown).astype(np.uint8)
        inner = cv2.erode(filled, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        return np.asarray(mask & ~unknown & (inner == 0))

    counts = np.zeros((classes, 2), np.int64)
    for index in np.union1d(label[~unknown], predicted[~unknown]):
        true, found = band(label == index), band(predicted == index)
        counts[index] = np.count_nonzero(true & found), np.count_nonzero(true | found)
    return counts


def _ratio(part: Counts, whole: Counts) -> npt.NDArray[np.float64]:
    """part / whole, NaN where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))


@dataclass(frozen=True)
class Accuracy:
    """What was counted on a set of frames, frame by frame.

    Attributes:
        classes: names, index order.
        frames: names of the N frames.
        counts: [N, C, C], see `confusion`.
        boundaries: [N, C, 2], see `boundary_counts`.
    """

    classes: tuple[str, ...]
    frames: tuple[str, ...]
    counts: Counts
    boundaries: Counts

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur, from the pixels of all frames together."""
        return miou(self.counts.sum(0))

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """[C], NaN where a class does not occur."""
        return iou(self.counts.sum(0))

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels with the right class."""
        return pixel_accuracy(self.counts.sum(0))

    @property
    def boundary_iou(self) -> npt.NDArray[np.float64]:
        """[C], NaN where a class does not occur."""
        both, either = np.moveaxis(self.boundaries.sum(0), -1, 0)
        return _ratio(both, either)

    @property
    def frame_miou(self) -> npt.NDArray[np.float64]:
        """[N]: of each frame alone; NaN for one without labelled pixels."""
        per_class = iou(self.counts)
        known = ~np.isnan(per_class)
        return _ratio(np.where(known, per_class, 0).sum(-1), known.sum(-1))

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of `miou`: frames drawn anew, with replacement.

        It says how much the figure depends on which frames were labelled. Frames of one video resemble each other, so
        that for streets never seen the true interval is wider.
        """
        sums = np.tensordot(bootstrap.draws(len(self.frames)), self.counts, axes=1)
        return bootstrap.interval(np.nanmean(iou(sums), axis=-1))


def drop_interval(ours: Counts, theirs: Counts) -> tuple[float, float]:
    """95 % bootstrap interval of the mIoU, 0..1, that `ours` lies below `theirs`.

    The same frames are drawn for both, so that what is hard for both cancels.

    Args:
        ours: [N, C, C], see `confusion`.
        theirs: the same of the same frames.
    """
    weights = bootstrap.draws(len(ours))
    mine, others = (np.nanmean(iou(np.tensordot(weights, counts, axes=1)), axis=-1) for counts in (ours, theirs))
    return bootstrap.interval(others - mine)


def measure(segment: Callable[[Mask], Mask], frames: Iterable[tuple[str, Mask, Mask]], classes: tuple[str, ...],
            ignore: int = IGNORE) -> Accuracy:
    """Compare masks with labels.

    Args:
        segment: frame uint8 [H, W, 3] BGR → class map [H, W]; whatever ships.
        frames: name, frame and label [H, W] (0..C-1 or `ignore`) of each.
        classes: names of the C classes.
        ignore: label of pixels that do not count.
    """
    names, counts, boundaries = [], [], []
    for name, frame, label in frames:
        predicted = segment(frame)
        assert predicted.shape == label.shape, f"{name}: mask {predicted.shape}, label {label.shape}"
        names.append(name)
        counts.append(confusion(label, predicted, len(classes), ignore))
        boundaries.append(boundary_counts(label, predicted, len(classes), ignore))
    return Accuracy(classes, tuple(names), np.stack(counts), np.stack(boundaries))
