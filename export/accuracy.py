"""What an export costs in mIoU: the network in torch against the artifact's session, both through the runtime."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from calibration.data.frames import evenly_spaced
from calibration.data.labels import find_pairs, label_map, read_pairs
from calibration.judge.accuracy import Accuracy, measure
from export.wrapper import Normalised
from runtime.artifact import Artifact, OutputKind
from runtime.errors import GateFailed
from runtime.segmenter import Segmenter
from runtime.sessions import Session, open_session

if TYPE_CHECKING:
    from export.request import Request
    from export.target import Job


class TorchSession:
    """The network as its authors run it, behind the runtime's interface.

    Args:
        wanted: the network, and what it returns.
        layout: of low-resolution logits, "NHWC" or "NCHW".
    """

    reuses_output = False

    def __init__(self, wanted: Request, layout: str) -> None:
        self._turned = wanted.output is OutputKind.LOW and layout == "NCHW"
        self._module = Normalised(wanted.network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners)

    def run(self, x: Any) -> Any:
        """uint8 [1, H, W, 3] BGR → what the artifact returns."""
        with torch.inference_mode():
            y = self._module(torch.from_numpy(x)).numpy()
        return np.moveaxis(y, 3, 1) if self._turned else y

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


def within_budget(job: Job, artifact: Artifact, session: Session, engine: str) -> Artifact:
    """Measure the float network and the artifact on the job's labelled frames, and hold the loss against its budget.

    Args:
        job: `data`, `max_frames` and `max_drop` count; without data nothing is measured.
        artifact: what the session returns; its file need not exist yet.
        session: what judges the artifact.
        engine: what the session is, for the record.

    Returns:
        The artifact with the figures in its details.

    Raises:
        GateFailed: more mIoU is lost than the budget allows.
    """
    if job.data is None:
        return artifact
    before = accuracy(artifact, TorchSession(job.request, artifact.output.layout), job.data, job.max_frames).miou
    after = accuracy(artifact, session, job.data, job.max_frames)
    drop, interval = 100 * (before - after.miou), after.interval()
    job.say(f"mIoU {after.miou:.4f} (95 % {interval[0]:.4f} to {interval[1]:.4f}) on {len(after.frames)} frames; "
            f"torch fp32 {before:.4f}, lost {drop:+.2f} points")
    if drop > job.max_drop:
        raise GateFailed(f"{artifact.name} in {artifact.precision} loses {drop:.2f} points of mIoU ({before:.4f} → "
                         f"{after.miou:.4f}); at most {job.max_drop:g} are allowed; nothing was written",
                         try_="another --precision, or a larger --max-drop")
    return dataclasses.replace(artifact, details={**artifact.details, "accuracy": {
        "miou": after.miou, "miou_interval": list(interval), "miou_torch_fp32": before, "frames": len(after.frames),
        "engine": engine}})


def reopened_within_budget(job: Job, engine: str, artifact: Artifact, path: Path) -> Artifact:
    """Open what was written once more, held against its JSON, and measure it as `within_budget` does.

    Raises:
        GateFailed: more mIoU is lost than the budget allows.
        UserError: the file and its JSON disagree.
    """
    with closing(open_session(artifact, path)) as session:
        return within_budget(job, artifact, session, engine)
