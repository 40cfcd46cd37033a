"""The loss by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from export.training.objective import class_weights, distillation, objective, soft_jaccard

EVEN = torch.ones(2)


def test_class_weights_are_the_square_root_of_enet_s_with_mean_one() -> None:
    found = class_weights(np.array([0.9, 0.1]))
    expected = [math.log(1.92) ** -0.5, math.log(1.12) ** -0.5]
    assert found.tolist() == pytest.approx([w / (sum(expected) / 2) for w in expected])


def test_soft_jaccard_is_one_minus_the_mean_iou_of_sure_answers() -> None:
    labels = torch.tensor([[[0, 0, 1, 255]]])
    predicted = torch.tensor([[[0, 1, 1, 0]]])
    logits = 100.0 * torch.nn.functional.one_hot(predicted, 3).permute(0, 3, 1, 2).float()
    # class 0: 1 of 2; class 1: 1 of 2; class 2 is not labelled; the last pixel does not count
    assert float(soft_jaccard(logits, labels)) == pytest.approx(0.5)


def test_pixels_without_a_label_change_nothing() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(1, 2, 4, 4), torch.randint(0, 2, (1, 4, 4))
    labels[0, 1] = 255
    other = logits.clone()
    other[:, :, 1] = 7
    assert objective(logits, labels, EVEN, 1.0) == objective(other, labels, EVEN, 1.0)


def test_an_auxiliary_output_counts_half() -> None:
    torch.manual_seed(0)
    first, second, labels = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4), torch.randint(0, 2, (1, 8, 8))
    alone = [float(objective(y, labels, EVEN, 0.5)) for y in (first, second)]
    for outputs in ((first, second), {"out": first, "aux": second}):
        assert float(objective(outputs, labels, EVEN, 0.5)) == pytest.approx(alone[0] + 0.5 * alone[1])


def test_low_resolution_logits_are_upsampled_to_the_labels() -> None:
    logits = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])  # left class 0, right class 1
    labels = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]])
    assert float(objective(logits, labels, EVEN, 0.0)) < 0.01


def test_distillation_is_zero_where_the_teacher_says_the_same_and_the_divergence_elsewhere() -> None:
    taught = torch.tensor([[[[2.0]], [[0.0]]]])
    assert distillation(taught + 3, taught).item() == pytest.approx(0, abs=1e-6)
    p = 1 / (1 + np.exp(-2.0))
    by_hand = p * np.log(p / 0.5) + (1 - p) * np.log((1 - p) / 0.5)
    assert distillation(torch.zeros(1, 2, 1, 1), taught).item() == pytest.approx(by_hand, rel=1e-5)
    assert distillation(torch.zeros(1, 2, 4, 6), taught).item() == pytest.approx(by_hand, rel=1e-5)
