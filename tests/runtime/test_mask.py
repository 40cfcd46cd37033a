"""The exact mask against torch: every pixel, any size, both conventions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from runtime import mask
from runtime.errors import UserError

ROUNDING = 1e-5
"""Two logits closer than this share of the largest magnitude are a tie: float32 cannot tell them apart for certain."""


def torch_logits(logits: np.ndarray, size: tuple[int, int], align_corners: bool) -> torch.Tensor:
    return interpolate(torch.from_numpy(logits)[None], size, mode="bilinear", align_corners=align_corners)[0]


def assert_same_but_for_ties(classes: np.ndarray, logits: np.ndarray, align_corners: bool = False) -> int:
    """Every pixel has torch's class, or one whose logit torch itself cannot tell from the best. Returns the ties."""
    full = torch_logits(logits, classes.shape, align_corners).numpy()
    expected = full.argmax(0)
    chosen = np.take_along_axis(full, classes[None].astype(np.int64), 0)[0]
    assert (full.max(0) - chosen).max() <= ROUNDING * np.abs(logits).max()
    return int((classes != expected).sum())


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, int], bool]:
    """Logits from flat (few mixed cells) to noise (all mixed), in either memory layout, and a frame of any size."""
    c, h, w = draw(st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12)))
    size = draw(st.tuples(st.integers(1, 50), st.integers(1, 50)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = draw(st.sampled_from([1e-3, 1, 1e3])) * (
        rng.standard_normal((c, 1, 1)) + draw(st.sampled_from([0, 0.3, 1, 10])) * rng.standard_normal((c, h, w)))
    if draw(st.booleans()):
        logits = np.round(logits)  # exact ties, also between corners
    logits = logits.astype(np.float32)
    if draw(st.booleans()):
        logits = np.ascontiguousarray(logits.transpose(1, 2, 0)).transpose(2, 0, 1)
    return logits, size, draw(st.booleans())


@given(problems())
@settings(max_examples=400, deadline=None)
def test_the_class_map_is_torchs_interpolate_and_argmax_ties_aside(problem):
    logits, size, align_corners = problem
    classes = mask.class_map(logits, size, align_corners=align_corners)
    assert classes.shape == size
    assert classes.dtype == np.uint8
    assert classes.flags.c_contiguous
    assert_same_but_for_ties(classes, logits, align_corners)


@given(problems())
@settings(max_examples=150, deadline=None)
def test_the_confidence_is_the_winners_softmax_after_interpolation(problem):
    logits, size, align_corners = problem
    logits = logits / max(1, np.abs(logits).max() / 20)
    classes, confidence = mask.class_map_with_confidence(logits, size, align_corners=align_corners)
    assert classes.shape == confidence.shape == size
    assert (classes.dtype, confidence.dtype) == (np.uint8, np.float32)
    assert_same_but_for_ties(classes, logits, align_corners)
    expected = torch_logits(logits.astype(np.float64), size, align_corners).softmax(0).max(0).values.numpy()
    # A logit of 20 carries an error of a few 1e-6, hence so does the logarithm of its probability.
    np.testing.assert_allclose(confidence, expected, rtol=5e-5)


@given(st.integers(1, 300), st.integers(1, 2200), st.booleans())
@settings(max_examples=150, deadline=None)
def test_pixels_are_sampled_where_torch_samples_them(source, target, align_corners):
    axis = mask._axis(source, target, align_corners)
    weights = np.zeros((source, target), np.float32)
    np.add.at(weights, (axis.near[axis.cell], np.arange(target)), 1 - axis.weight)
    np.add.at(weights, (axis.far[axis.cell], np.arange(target)), axis.weight)
    expected = torch_logits(np.eye(source, dtype=np.float32)[:, None], (1, target), align_corners)[:, 0].numpy()
    # The same bits where torch fuses multiply and add, as it does on x86 with AVX2; half a step elsewhere.
    np.testing.assert_allclose(weights, expected, rtol=0, atol=np.spacing(np.float32(source)))


@pytest.mark.parametrize("size", [(512, 1024), (720, 1280), (50, 70)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_on_street_sized_logits_no_pixel_differs(size, align_corners):
    coarse = np.random.default_rng(1).standard_normal((11, 9, 17)).astype(np.float32)
    logits = torch_logits(coarse, (64, 128), False).numpy()
    logits += 0.02 * np.random.default_rng(2).standard_normal(logits.shape).astype(np.float32)
    classes = mask.class_map(logits, size, align_corners=align_corners)
    # Logits this steep put less than one pixel in 1e5 within rounding of a tie.
    assert assert_same_but_for_ties(classes, logits, align_corners) <= classes.size / 1e5


@pytest.mark.parametrize(("align_corners", "width", "expected"), [
    # Sample positions -0.375, -0.125, 0.125, ... 1.375; the third class leads between 0.3 and 0.7.
    (False, 8, [0, 0, 0, 2, 2, 1, 1, 1]),
    (True, 5, [0, 0, 2, 1, 1]),  # sample positions 0, 0.25, 0.5, 0.75, 1
])
def test_a_class_that_wins_at_no_corner_can_win_in_between(align_corners, width, expected):
    logits = np.array([[[1, 0]], [[0, 1]], [[0.7, 0.7]]], np.float32)
    assert mask.class_map(logits, (1, width), align_corners=align_corners).tolist() == [expected]


def test_nearest_neighbour_would_not_pass_as_exact():
    logits = np.random.default_rng(3).standard_normal((5, 6, 8)).astype(np.float32)
    nearest = mask.resize_classes(logits.argmax(0).astype(np.uint8), (48, 64))
    with pytest.raises(AssertionError):
        assert_same_but_for_ties(nearest, logits)


def test_255_classes_fit():
    logits = np.random.default_rng(4).standard_normal((255, 3, 4)).astype(np.float32)
    classes = mask.class_map(logits, (17, 23))
    assert classes.max() > 200
    assert_same_but_for_ties(classes, logits)


def test_where_classes_are_equal_the_first_one_is_taken_as_argmax_does():
    assert mask.class_map(np.zeros((3, 2, 2), np.float32), (5, 5)).max() == 0


def test_working_through_few_cells_at_a_time_changes_nothing(monkeypatch):
    logits = np.random.default_rng(5).standard_normal((6, 9, 11)).astype(np.float32)
    whole = mask.class_map(logits, (40, 60))
    monkeypatch.setattr(mask, "LOGITS_AT_ONCE", 100)
    assert np.array_equal(mask.class_map(logits, (40, 60)), whole)


def test_at_the_logits_own_size_every_cell_is_pure():
    for align_corners in (False, True):
        axis = mask._axis(7, 7, align_corners)
        assert np.array_equal(axis.near, axis.far)


def test_the_logits_are_left_as_they_were():
    logits = np.random.default_rng(6).standard_normal((4, 5, 6)).astype(np.float32)
    before = logits.copy()
    mask.class_map(logits, (20, 20))
    mask.class_map_with_confidence(logits, (20, 20))
    assert np.array_equal(logits, before)


@pytest.mark.parametrize(("logits", "size", "message"), [
    (np.zeros((2, 3), np.float32), (4, 4), "shape"),
    (np.zeros((2, 3, 4), np.float64), (4, 4), "float64"),
    (np.zeros((256, 3, 4), np.float32), (4, 4), "255"),
    (np.zeros((0, 3, 4), np.float32), (4, 4), "1 to 255"),
    (np.zeros((2, 0, 4), np.float32), (4, 4), "shape"),
    (np.zeros((2, 3, 4), np.float32), (0, 4), "0x4"),
    (np.full((2, 3, 4), np.nan, np.float32), (4, 4), "NaN"),
    (np.full((2, 3, 4), np.inf, np.float32), (4, 4), "infinite"),
])
def test_unusable_logits_are_refused_with_what_was_received(logits, size, message):
    for function in (mask.class_map, mask.class_map_with_confidence):
        with pytest.raises(UserError, match=message):
            function(logits, size)


def test_a_class_map_is_resized_by_pixel_centres():
    classes = np.array([[0, 1, 2]], np.uint8)
    assert mask.resize_classes(classes, (2, 6)).tolist() == [[0, 0, 1, 1, 2, 2]] * 2
    assert mask.resize_classes(classes, (1, 1)).tolist() == [[1]]
    assert mask.resize_classes(classes, (1, 2)).tolist() == [[0, 2]]  # centres at 0.75 and 2.25
    assert mask.resize_classes(classes, (1, 3)) is classes
