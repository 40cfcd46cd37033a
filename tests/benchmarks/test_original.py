"""What an artifact keeps of the network: shares and points worked out by hand."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.original import Evaluation
from calibration.judge.accuracy import Accuracy, confusion, drop_interval

LABEL = np.array([[0, 0, 1, 1]], np.uint8)


def made(*masks: npt.NDArray[np.uint8]) -> Evaluation:
    """What somebody made of frames of four pixels."""
    counts = np.stack([confusion(LABEL, mask, 2) for mask in masks])
    names = tuple(str(i) for i in range(len(masks)))
    return Evaluation(Accuracy(("a", "b"), names, counts, np.zeros((len(masks), 2, 2), np.int64)),
                tuple(zlib.compress(mask.tobytes()) for mask in masks))


def test_pixels_kept_and_points_lost_are_counted_against_the_network_and_not_against_the_labels() -> None:
    wrong = np.array([[0, 1, 1, 1]], np.uint8)  # IoU 1/2 and 2/3
    lost = made(LABEL, wrong).against(made(LABEL, LABEL))
    assert lost["agreement"] == pytest.approx((1 + 3 / 4) / 2)
    assert lost["drop_points"] == pytest.approx(100 * (1 - (3 / 4 + 4 / 5) / 2))  # of both frames together
    assert 0 == lost["drop_low_points"] < lost["drop_points"] < lost["drop_high_points"]
    assert made(wrong, wrong).against(made(wrong, wrong))["agreement"] == 1


def test_what_is_hard_for_both_is_no_loss_whichever_frames_are_drawn() -> None:
    wrong = np.array([[1, 1, 0, 0]], np.uint8)
    both = made(LABEL, wrong, LABEL).accuracy.counts
    assert drop_interval(both, both) == (0, 0)
