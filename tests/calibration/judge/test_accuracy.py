"""The figures are those that one gets by hand, and those that torchmetrics gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.judge import accuracy

LABEL = np.array([[0, 0, 1],
                  [0, 1, 1],
                  [2, 2, 255]], np.uint8)
PREDICTED = np.array([[0, 1, 1],
                      [0, 1, 1],
                      [2, 0, 0]], np.uint8)


def test_a_frame_of_nine_pixels_counts_as_by_hand() -> None:
    counts = accuracy.confusion(LABEL, PREDICTED, classes=4)
    assert counts.tolist() == [[2, 1, 0, 0],
                               [0, 3, 0, 0],
                               [1, 0, 1, 0],
                               [0, 0, 0, 0]]
    # Hits, labelled, predicted: class 0 2, 3, 3 → 2 / 4; class 1 3, 3, 4 → 3 / 4; class 2 1, 2, 1 → 1 / 2.
    np.testing.assert_array_equal(accuracy.iou(counts), [0.5, 0.75, 0.5, np.nan])
    assert accuracy.miou(counts) == pytest.approx(1.75 / 3)
    assert accuracy.pixel_accuracy(counts) == 6 / 8


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_iou_and_pixel_accuracy_are_those_of_torchmetrics(seed: int, classes: int) -> None:
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, (13, 17)).astype(np.uint8)
    predicted = np.where(rng.random(label.shape) < 0.6, label, rng.integers(0, classes, label.shape)).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = 255
    counts = accuracy.confusion(label, predicted, classes)
    arguments = torch.from_numpy(predicted).int(), torch.from_numpy(label).int()
    expected = metrics.multiclass_jaccard_index(*arguments, num_classes=classes, average="none", ignore_index=255)
    np.testing.assert_allclose(np.nan_to_num(accuracy.iou(counts)), expected.numpy(), atol=1e-6)
    right = metrics.multiclass_accuracy(*arguments, num_classes=classes, average="micro", ignore_index=255)
    assert accuracy.pixel_accuracy(counts) == pytest.approx(float(right), abs=1e-6)


def test_boundary_iou_compares_only_the_band_inside_each_outline() -> None:
    label = np.zeros((30, 40), np.uint8)  # diagonal 50, so that the band is one pixel wide
    label[5:15, 5:15] = 1
    moved = np.zeros_like(label)
    moved[5:15, 6:16] = 1
    counts = accuracy.boundary_counts(label, moved, 2)
    # A ring of a 10×10 square has 36 pixels. Moved by one column, the rings share the 9 common pixels of the upper and
    # of the lower row: 18, and 36 + 36 - 18 in either.
    assert counts[1].tolist() == [18, 54]
    assert accuracy.boundary_counts(label, label, 2)[1].tolist() == [36, 36]


def test_pixels_without_a_label_are_no_boundary_and_do_not_count() -> None:
    label = np.zeros((30, 40), np.uint8)
    label[:, 20:] = 255
    counts = accuracy.boundary_counts(label, np.zeros_like(label), 1)
    assert counts[0].tolist() == [20 + 28 + 20, 20 + 28 + 20]  # top, left, bottom; what is right is unknown


def collected(frames: int = 40, seed: int = 0) -> accuracy.Accuracy:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, (frames, 3, 3)) + 200 * np.eye(3, dtype=np.int64) * rng.integers(0, 3, (frames, 1, 1))
    return accuracy.Accuracy(("a", "b", "c"), tuple(map(str, range(frames))), counts,
                             rng.integers(0, 9, (frames, 3, 2)).cumsum(-1))


def test_miou_is_of_all_pixels_together_and_not_a_mean_over_frames() -> None:
    found = collected()
    assert found.miou == accuracy.miou(found.counts.sum(0))
    assert found.miou != pytest.approx(found.frame_miou.mean(), abs=1e-4)


def test_the_interval_holds_the_figure_shrinks_with_more_frames_and_repeats() -> None:
    few, many = collected(20), collected(500)
    for found in (few, many):
        low, high = found.interval()
        assert low < found.miou < high
    assert np.diff(many.interval()) < np.diff(few.interval())
    assert few.interval() == few.interval()


def test_identical_frames_leave_no_doubt() -> None:
    one = collected(1)
    found = accuracy.Accuracy(one.classes, ("x",) * 9, np.repeat(one.counts, 9, 0), np.repeat(one.boundaries, 9, 0))
    assert found.interval() == pytest.approx((one.miou, one.miou))


def test_a_frame_s_own_miou_leaves_out_what_is_not_in_it() -> None:
    found = accuracy.measure(lambda _: PREDICTED, [("x", np.zeros((3, 3, 3), np.uint8), LABEL)], ("a", "b", "c", "d"))
    assert found.frame_miou.tolist() == [pytest.approx(1.75 / 3)]
