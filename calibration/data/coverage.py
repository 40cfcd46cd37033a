"""Which frames of a folder to calibrate with: those that together look most like all of them, not the first N."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from runtime.cli import progress
from runtime.errors import UserError
from runtime.preprocess import Frame, Preprocess
from runtime.video import image_paths, read_image

FEWEST = 32
"""Fewer frames than this leave ranges to chance; refused unless the user insists."""

Descriptor = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Chosen:
    """Calibration frames.

    Attributes:
        paths: the images, in the order of choice: each adds most to what those before it show.
        preprocess: brings them to the network's size.
        fingerprint: SHA-256 over preprocessing, names and contents.
    """

    paths: tuple[Path, ...]
    preprocess: Preprocess
    fingerprint: str

    def read(self, index: int) -> Frame:
        """One frame, uint8 [1, H, W, 3] BGR, at the network's size."""
        return self.preprocess(read_image(self.paths[index]))


def choose(folder: Path, count: int, preprocess: Preprocess, *, allow_few: bool = False) -> Chosen:
    """Choose calibration frames from a folder of images.

    Args:
        folder: images, directly inside.
        count: how many to choose, at least 1; all where the folder holds fewer.
        preprocess: the network's.
        allow_few: accept fewer than `FEWEST`.

    Raises:
        UserError: no folder, no or unreadable images, or too few of them.
    """
    paths = image_paths(folder)
    if min(count, len(paths)) < FEWEST and not allow_few:
        held = f"{folder} holds {len(paths)} images" if len(paths) < FEWEST else f"--frames {count} was received"
        raise UserError(f"{held}; ranges from fewer than {FEWEST} frames are left to chance",
                        try_="more images, or --allow-few")
    if count < len(paths):
        described = [descriptor(read_image(path)) for path in progress(paths, len(paths), "choosing frames")]
        paths = [paths[i] for i in covering(np.stack(described), count)]
    return Chosen(tuple(paths), preprocess, fingerprint(paths, preprocess))


def descriptor(frame: Frame) -> Descriptor:
    """What a frame looks like, coarsely: an 8×8 picture of it in Lab, and how much of each lightness it holds.

    Returns:
        float32 [208]; layout and light count about equally.
    """
    lab = cv2.cvtColor(cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2Lab)
    layout = cv2.resize(lab, (8, 8), interpolation=cv2.INTER_AREA).astype(np.float32).ravel() / 255
    light = np.histogram(lab[..., 0], bins=16, range=(0, 256))[0].astype(np.float32) / lab[..., 0].size
    return np.concatenate([layout / np.sqrt(len(layout)), light])


def covering(points: Descriptor, count: int) -> list[int]:
    """Indices of `count` points such that no other point is far from all of them.

    Farthest-first traversal from the most central point, within twice the optimum (Gonzalez 1985, "Clustering to
    minimize the maximum intercluster distance"). That it picks outliers is wanted here: rare light and rare scenes are
    what stretches ranges.

    Args:
        points: [N, D].
        count: at most N.
    """
    chosen = [int(np.argmin(np.linalg.norm(points - points.mean(0), axis=1)))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return chosen


def fingerprint(paths: Sequence[Path], preprocess: Preprocess) -> str:
    """SHA-256 over the preprocessing and every image's name and contents; the order does not matter."""
    digest = hashlib.sha256(repr(preprocess).encode())
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
