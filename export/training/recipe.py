"""Every number that decides what a training ends in."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """The recipe, whatever the network.

    Attributes:
        epochs: passes over the training frames.
        batch: frames per step; what is left over at an epoch's end is dropped.
        crop: (H, W) of a training view.
        rate: learning rate at its peak, for AdamW.
        decay: weight decay of convolution weights.
        warmup: share of all steps in which the rate rises linearly; it falls as a cosine after.
        clip: largest norm of the gradient.
        average: share of the moving average that a step keeps (less in the first steps).
        norm_momentum: momentum of batch norms; torchvision's 0.01 is made for large batches.
        jaccard: weight of the soft Jaccard term.
        balanced: share of the views that are centred on a class drawn evenly, so that rare ones are seen more often.
        seed: of everything random.
        weights: what training starts from, as `--weights` takes it everywhere; "none" is random.
        teacher: a network with bundled weights whose probabilities are learnt beside the labels; empty for none.
        distill: weight of that term.
        hold_out: training frames whose stem starts so are kept out of training and scored as streets never seen.
    """

    epochs: int = 150
    batch: int = 8
    crop: tuple[int, int] = (288, 384)
    rate: float = 3e-3
    decay: float = 0.02
    warmup: float = 0.06
    clip: float = 5.0
    average: float = 0.998
    norm_momentum: float = 0.05
    jaccard: float = 1.0
    balanced: float = 0.25
    seed: int = 0
    weights: str = "none"
    teacher: str = ""
    distill: float = 1.0
    hold_out: str = ""

    def rate_at(self, progress: float) -> float:
        """Learning rate after a share `progress` (0..1) of all steps."""
        if progress < self.warmup:
            return self.rate * (progress / self.warmup + 1e-3)
        return self.rate * (0.5 + 0.5 * math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))
