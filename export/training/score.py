"""How well a torch network does on labelled frames, at the frames' own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from calibration.judge import accuracy
from export.spec import ModelSpec
from export.training.samples import Sample


@dataclass(frozen=True)
class ValidationScore:
    """Figures over all frames of a set, 0..1; `iou` per class, NaN where the class does not occur."""

    frames: int
    miou: float
    iou: tuple[float, ...]
    pixel_accuracy: float


def score(network: nn.Module, entry: ModelSpec, samples: Sequence[Sample], device: torch.device) -> ValidationScore:
    """Score a network in eval mode, in float32: resize as the runtime does, upsample logits to the frame, argmax."""
    classes = len(entry.classes.names)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) * 255 for v in
                 (entry.preprocess.mean, entry.preprocess.std))
    counts = np.zeros((classes, classes), np.int64)
    for sample in samples:
        frame = torch.from_numpy(entry.preprocess(sample.image)).to(device)
        with torch.inference_mode():
            logits = network((frame.permute(0, 3, 1, 2).float() - mean) / std)
            logits = F.interpolate(logits, size=sample.label.shape, mode="bilinear", align_corners=entry.align_corners)
        counts += accuracy.confusion(sample.label, logits[0].argmax(0).byte().cpu().numpy(), classes)
    return ValidationScore(len(samples), accuracy.miou(counts), tuple(map(float, accuracy.iou(counts))),
                 accuracy.pixel_accuracy(counts))
