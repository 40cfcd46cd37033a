"""export.ncnn.equalise: channels of all sizes keep their values in INT8, and the folder computes what it did."""

from __future__ import annotations

import dataclasses
from contextlib import closing

import numpy as np
import pytest
import torch
from torch import nn

from calibration.data.frames import drawn_frame
from export import ncnn
from tests import tiny

if hindrance := ncnn.TARGET.hindrance():
    pytest.skip(hindrance, allow_module_level=True)

from export.ncnn.convert import ncnn_from_torch
from export.ncnn.equalise import equalised
from export.ncnn.quantise import int8_from_float, observed
from runtime.sessions.ncnn import NcnnSession

FRAMES = [drawn_frame((32, 48), seed)[None] for seed in range(4)]


def outputs(folder):
    with closing(NcnnSession(folder)) as session:
        return np.concatenate([session.run(frame) for frame in FRAMES])


def loss(folder, out):
    """What INT8 changes of the results, root mean square, in units of their own."""
    expected = outputs(folder)
    int8_from_float(folder, observed(folder, FRAMES), out)
    return float(np.std(outputs(out) - expected) / np.std(expected))


def test_channels_are_followed_through_skip_connections_gates_interpolation_and_concatenation(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    ncnn_from_torch(dataclasses.replace(tiny.request(), network=tiny.Aggregating().eval()), before)
    equalised(before, FRAMES, after)
    np.testing.assert_allclose(outputs(after), outputs(before), rtol=1e-3, atol=1e-4)
    assert loss(after, tmp_path / "even") < loss(before, tmp_path / "uneven") / 4


def test_a_convolution_with_groups_of_several_channels_computes_in_integers(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 24, 3, 1, 1, groups=4), nn.ReLU(),
                            nn.Conv2d(24, 11, 1)).eval()
    before, after = tmp_path / "before", tmp_path / "after"
    ncnn_from_torch(dataclasses.replace(tiny.request(), network=network), before)
    equalised(before, FRAMES, after)
    np.testing.assert_allclose(outputs(after), outputs(before), rtol=1e-3, atol=1e-4)
    assert 0 < loss(after, tmp_path / "int8") < 0.1
