"""How a quantised graph does on frames that it was not calibrated on: agreement with float, and mIoU with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calibration.data.coverage import Chosen
from calibration.data.frames import evenly_spaced
from calibration.data.labels import find_pairs, label_map, read_pairs
from calibration.judge import bootstrap
from calibration.judge.accuracy import Accuracy, confusion, drop_interval, miou
from runtime.artifact import Artifact
from runtime.cli import progress
from runtime.errors import UserError
from runtime.preprocess import Frame
from runtime.segmenter import Segmenter
from runtime.sessions import Session
from runtime.video import image_paths, read_image

Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class HeldOut:
    """Frames that ranges were not learnt from, to judge on.

    Attributes:
        names: of the frames.
        frames: uint8 [H, W, 3] BGR, at their own size.
        labels: class indices with IGNORE, of the frames' sizes; empty without labels.
    """

    names: tuple[str, ...]
    frames: tuple[Frame, ...]
    labels: tuple[Mask, ...] = ()

    def part(self, count: int) -> HeldOut:
        """At most `count` of the frames, spread over all."""
        indices = evenly_spaced([Path(str(i)) for i in range(len(self.frames))], count)
        picked = [int(str(i)) for i in indices]
        return HeldOut(tuple(self.names[i] for i in picked), tuple(self.frames[i] for i in picked),
                       tuple(self.labels[i] for i in picked) if self.labels else ())


@dataclass(frozen=True)
class Data:
    """What `--data` holds: images to choose calibration frames from, and where the frames to judge on are."""

    images: Path
    held_out: Path
    labelled: bool


def find_data(folder: Path) -> Data:
    """Understand a data folder.

    Either `train/images` and `val/images` (calibrated on one, judged on the other; val/labels is used when present),
    or `images` (with `labels`), or a plain folder of images; in these two the frames that were not chosen judge.

    Raises:
        UserError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise UserError(f"--data {folder} is not a folder; expected a folder of images, or one with train/ and val/")
    if (folder / "train" / "images").is_dir() and (folder / "val" / "images").is_dir():
        return Data(folder / "train" / "images", folder / "val", (folder / "val" / "labels").is_dir())
    if (folder / "images").is_dir():
        return Data(folder / "images", folder, (folder / "labels").is_dir())
    image_paths(folder)
    return Data(folder, folder, False)


def read_held_out(data: Data, chosen: Chosen, artifact: Artifact, count: int) -> HeldOut:
    """Read the frames to judge on: at most `count`, spread over all that were not calibrated on.

    Raises:
        UserError: none are left, or labels do not fit the network's classes.
    """
    used = set(chosen.paths)
    if data.labelled:
        pairs = [pair for pair in find_pairs(data.held_out) if pair.image not in used]
        keep = set(evenly_spaced([pair.image for pair in pairs], count))
        rows = list(read_pairs([pair for pair in pairs if pair.image in keep], label_map("own", artifact.classes)))
        names, frames, labels = (tuple(column) for column in zip(*rows)) if rows else ((), (), ())
        held_out = HeldOut(names, frames, labels)
    else:
        folder = data.held_out / "images" if (data.held_out / "images").is_dir() else data.held_out
        paths = evenly_spaced([path for path in image_paths(folder) if path not in used], count)
        held_out = HeldOut(tuple(path.name for path in paths), tuple(read_image(path) for path in paths))
    if not held_out.frames:
        raise UserError(f"all {len(used)} images of {data.images} are calibrated on; expected some to evaluate on",
                        try_=f"--frames {max(len(used) * 3 // 4, 1)}")
    return held_out


@dataclass(frozen=True)
class Score:
    """How one engine did on the held-out frames.

    Attributes:
        agreement: [N], share of each frame's pixels with the float network's class.
        counts: [N, C, C] confusion with the labels; empty without labels.
        masks: the class maps.
    """

    agreement: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    masks: tuple[Mask, ...]

    @property
    def miou(self) -> float | None:
        """0..1 over all frames; None without labels."""
        return miou(self.counts.sum(0)) if self.counts.size else None


class Judge:
    """Runs engines on held-out frames and compares them with the float network.

    Args:
        artifact: the float artifact, which says what a mask is.
        reference: the float engine.
        held_out: the frames.
    """

    def __init__(self, artifact: Artifact, reference: Session, held_out: HeldOut, label: str = "float masks") -> None:
        self.held_out = held_out
        self._artifact = artifact
        self._float = self._masks(reference, label)
        self.reference = self.score_masks(self._float)

    def score(self, session: Session, label: str = "") -> Score:
        """Run an engine on every frame."""
        return self.score_masks(self._masks(session, label))

    def score_masks(self, masks: Sequence[Mask]) -> Score:
        """Compare class maps, one per frame."""
        classes = len(self._artifact.classes)
        return Score(np.array([np.mean(a == b) for a, b in zip(masks, self._float)]),
                     np.array([confusion(label, mask, classes) for label, mask in zip(self.held_out.labels, masks)]),
                     tuple(masks))

    def drop(self, score: Score) -> float:
        """What quantising costs, in points: of mIoU where there are labels, else of pixels that change class."""
        if score.miou is None or self.reference.miou is None:
            return 100 * float(1 - score.agreement.mean())
        return 100 * (self.reference.miou - score.miou)

    @property
    def unit(self) -> str:
        """What `drop` counts."""
        return "points of mIoU" if self.held_out.labels else "% of pixels"

    def accuracy(self, score: Score) -> Accuracy:
        """The score as calibration.judge.accuracy's record (without boundary figures)."""
        classes = self._artifact.classes
        names = self.held_out.names
        return Accuracy(classes, names, score.counts, np.zeros((len(names), len(classes), 2), int))

    def drop_interval(self, score: Score) -> tuple[float, float]:
        """95 % bootstrap interval of `drop`: the same frames are drawn for both, so that what is hard for both
        cancels."""
        if self.held_out.labels:
            low, high = drop_interval(score.counts, self.reference.counts)
            return 100 * low, 100 * high
        n = len(self.held_out.names)
        values = 100 * (1 - bootstrap.draws(n) @ score.agreement / n)
        return bootstrap.interval(values)

    def _masks(self, session: Session, label: str) -> list[Mask]:
        segmenter = Segmenter(self._artifact, session)
        frames: Any = self.held_out.frames
        return [segmenter(frame).mask for frame in (progress(frames, len(frames), label) if label else frames)]
