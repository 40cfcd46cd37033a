"""What a Core ML package costs in mIoU, measured through the runtime's own path with the evaluator as its engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from calibration.data.frames import evenly_spaced
from calibration.data.labels import find_pairs, label_map, read_pairs
from calibration.judge.accuracy import Accuracy, measure
from export.wrapper import Normalised
from runtime.artifact import Artifact, OutputKind
from runtime.segmenter import Segmenter
from runtime.sessions import Session

if TYPE_CHECKING:
    from export.request import Request


class TorchSession:
    """The network as its authors run it, behind the runtime's interface; logits are [1, C, h, w]."""

    reuses_output = False

    def __init__(self, wanted: Request) -> None:
        self._low = wanted.output is OutputKind.LOW
        self._module = Normalised(wanted.network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners)

    def run(self, x: Any) -> Any:
        """uint8 [1, H, W, 3] BGR → what the artifact returns."""
        with torch.inference_mode():
            y = self._module(torch.from_numpy(x)).numpy()
        return np.moveaxis(y, 3, 1) if self._low else y

    def close(self) -> None:
        """Nothing to release."""


def accuracy(artifact: Artifact, session: Session, data: Path, max_frames: int | None = None) -> Accuracy:
    """mIoU and the like of a session on labelled frames.

    Args:
        artifact: what the session returns, and how it wants its frames.
        session: any engine.
        data: folder with images/ and labels/, labels in the network's own class order.
        max_frames: evenly sampled; None for all.

    Raises:
        UserError: a folder or file cannot be used.
    """
    pairs = find_pairs(data)
    if max_frames is not None:
        kept = set(evenly_spaced([pair.image for pair in pairs], max_frames))
        pairs = [pair for pair in pairs if pair.image in kept]
    segmenter = Segmenter(artifact, session)
    return measure(lambda frame: segmenter(frame).mask, read_pairs(pairs, label_map("own", artifact.classes)),
                   artifact.classes)
