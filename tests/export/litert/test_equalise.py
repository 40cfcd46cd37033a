"""export.litert.equalise: channels of all sizes keep their values in INT8, and the file computes what it did."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calibration.data.frames import drawn_frame
from calibration.quantise.thresholds import choose
from export.litert.equalise import equalised
from export.litert.quantise import int8_from_float, largest_by_channel, observed
from runtime.sessions.litert import LitertSession
from tests import lite, tiny

pytest.importorskip("ai_edge_litert")

FRAMES = [drawn_frame((32, 48), seed)[None] for seed in range(4)]


def outputs(model: bytes) -> np.ndarray:
    session = LitertSession(model)
    return np.concatenate([np.array(session.run(frame)) for frame in FRAMES])


def loss(model: bytes) -> float:
    """What INT8 changes of the results, root mean square, in units of their own."""
    expected = outputs(model)
    ranges = choose("mse", observed(model, FRAMES), zero_points=True)
    return float(np.std(outputs(int8_from_float(model, ranges)) - expected) / np.std(expected))


def test_uneven_channels_are_brought_back_to_one_size_and_the_file_computes_the_same():
    model = lite.converted()
    even = {name: np.ones_like(sizes) for name, sizes in largest_by_channel(model, FRAMES).items()}
    uneven = equalised(model, {name: np.logspace(-2, 2, len(sizes)) for name, sizes in even.items()})
    assert uneven != equalised(model, even)
    after = equalised(uneven, largest_by_channel(uneven, FRAMES))
    for file in (uneven, after):
        np.testing.assert_allclose(outputs(file), outputs(model), atol=1e-4 * np.abs(outputs(model)).max())
    assert loss(after) < loss(uneven) / 2


@pytest.mark.slow
def test_channels_are_followed_through_skip_connections_gates_interpolation_and_concatenation():
    lite.converted()
    from export.litert.convert import tflite_from_torch

    model = tflite_from_torch(dataclasses.replace(tiny.request(), network=tiny.Aggregating().eval()))
    after = equalised(model, largest_by_channel(model, FRAMES))
    np.testing.assert_allclose(outputs(after), outputs(model), rtol=1e-3, atol=1e-4)
    assert loss(after) < loss(model) / 4
