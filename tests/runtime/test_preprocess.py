"""From a camera frame to the engine's input."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.errors import UserError
from runtime.preprocess import Interpolation, Preprocess


def test_a_frame_of_the_right_size_is_passed_on_without_a_copy():
    frame = np.zeros((4, 6, 3), np.uint8)
    x = Preprocess((4, 6))(frame)
    assert x.shape == (1, 4, 6, 3)
    assert np.shares_memory(x, frame)


def test_a_view_with_gaps_becomes_contiguous():
    assert Preprocess((4, 6))(np.zeros((4, 12, 3), np.uint8)[:, ::2]).flags.c_contiguous


@pytest.mark.parametrize(("interpolation", "expected"), [
    (Interpolation.LINEAR, [50, 90]),  # a pixel's new centre lies between the two middle ones of each four
    (Interpolation.AREA, [40, 95]),  # the mean of each four
    (Interpolation.NEAREST, [60, 80]),  # OpenCV takes pixel floor(4·i), i.e. the first of each four
])
def test_each_interpolation_is_the_one_it_says(interpolation, expected):
    row = {Interpolation.NEAREST: [60, 1, 2, 3, 80, 4, 5, 6]}.get(interpolation, [0, 40, 60, 60, 100, 80, 100, 100])
    frame = np.repeat(np.uint8(row)[None, :, None], 3, axis=2)
    x = Preprocess((1, 2), interpolation=interpolation)(frame)
    assert x[0, 0, :, 0].tolist() == expected


@pytest.mark.parametrize("frame", [np.zeros((4, 6), np.uint8), np.zeros((4, 6, 4), np.uint8),
                                   np.zeros((4, 6, 3), np.float32)])
def test_what_is_not_a_bgr_frame_is_refused_with_its_shape_and_dtype(frame):
    with pytest.raises(UserError, match=str(frame.dtype)):
        Preprocess((4, 6))(frame)
