"""What training minimises."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from calibration.judge.accuracy import IGNORE

Outputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]

AUXILIARY = 0.5
"""Weight of each auxiliary output, as in the articles that have one (PSPNet used 0.4, DDRNet and STDC 0.5 to 1)."""


def class_weights(frequencies: npt.NDArray[np.float64]) -> Tensor:
    """Square root of ENet's weights 1 / ln(1.02 + p) (arXiv:1606.02147, §5.2): 1 for all, up to 7 times for the rarest.

    Args:
        frequencies: share of each class among the labelled pixels.

    Returns:
        float32 [classes], mean 1.
    """
    weights = (1 / np.log(1.02 + frequencies)) ** 0.5
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def separated(outputs: Outputs) -> tuple[Tensor, ...]:
    """A network's logits, then those of its auxiliary heads, whichever way it returns them."""
    if isinstance(outputs, Tensor):
        return (outputs,)
    return tuple(outputs.values() if isinstance(outputs, dict) else outputs)


def objective(outputs: Outputs, labels: Tensor, weights: Tensor, jaccard: float) -> Tensor:
    """Cross entropy plus `jaccard` times the soft Jaccard loss; auxiliary outputs count `AUXILIARY`.

    Args:
        outputs: logits [N, C, h, w], or those and auxiliary ones; see `separated`.
        labels: int64 [N, H, W], `IGNORE` where nothing counts; logits are upsampled to them.
        weights: per class.
        jaccard: share of the second term; 0 leaves it out.
    """
    first, *others = separated(outputs)
    return _loss(first, labels, weights, jaccard) + AUXILIARY * sum(
        (_loss(other, labels, weights, jaccard) for other in others), start=first.new_zeros(()))


def _loss(logits: Tensor, labels: Tensor, weights: Tensor, jaccard: float) -> Tensor:
    logits = F.interpolate(logits.float(), size=labels.shape[-2:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(logits, labels, weights, ignore_index=IGNORE)
    return loss + jaccard * soft_jaccard(logits, labels) if jaccard else loss


def soft_jaccard(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - IoU over the batch with probabilities in place of decisions, mean over the classes labelled in it.

    Args:
        logits: float [N, C, H, W].
        labels: int64 [N, H, W].
    """
    valid = (labels != IGNORE).unsqueeze(1)
    truth = (labels.unsqueeze(1) == torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)).float()
    probability = logits.softmax(1) * valid
    hits = (probability * truth).sum((0, 2, 3))
    true = truth.sum((0, 2, 3))
    union = probability.sum((0, 2, 3)) + true - hits
    present = (true > 0).float()
    return ((1 - hits / union.clamp(min=1)) * present).sum() / present.sum().clamp(min=1)


def distillation(logits: Tensor, taught: Tensor) -> Tensor:
    """Kullback–Leibler divergence of the student's class probabilities from the teacher's, mean over all pixels
    (Hinton et al., arXiv:1503.02531, at temperature 1): labelled or not, the teacher has a say on every pixel.

    Args:
        logits: float [N, C, h, w] of the student.
        taught: float [N, C, h', w'] logits of the teacher, resized to the student's.
    """
    target = F.interpolate(taught.float(), size=logits.shape[-2:], mode="bilinear", align_corners=False).log_softmax(1)
    apart = F.kl_div(logits.float().log_softmax(1), target, reduction="none", log_target=True)
    return apart.sum(1).mean()
