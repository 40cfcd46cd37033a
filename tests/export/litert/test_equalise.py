"""export.litert.equalise: channels of all sizes keep their values in INT8, and the file computes what it did."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

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


class Aggregating(nn.Module):
    """What DFANet is made of: separable convolutions beside a shortcut, concatenation with what was interpolated.

    Its channels are of very different sizes, and so are the maps that it concatenates.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 8, 1))
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU6(), nn.Conv2d(8, 8, 1))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1))
        self.classifier = nn.Conv2d(16, 11, 1)
        size = torch.logspace(-1.5, 1.5, 8)
        with torch.no_grad():
            for layer in (self.stem[0], self.body[2]):
                layer.weight.mul_(size[:, None, None, None])
                layer.bias.mul_(size)
            self.body[1].weight.div_(size[:, None, None, None])
            self.deep[0].weight.div_(size[:, None, None])
            self.classifier.weight[:, :8].div_(size[:, None, None])

    def forward(self, x):
        x = self.stem(x)
        x = x + self.body(x)
        deep = self.deep(x)
        deep = nn.functional.interpolate(deep * self.gate(deep), scale_factor=2, mode="bilinear")
        return self.classifier(torch.cat((x, deep), 1).relu())


@pytest.mark.slow
def test_channels_are_followed_through_skip_connections_gates_interpolation_and_concatenation():
    lite.converted()
    from export.litert.convert import tflite_from_torch

    model = tflite_from_torch(dataclasses.replace(tiny.request(), network=Aggregating().eval()))
    after = equalised(model, largest_by_channel(model, FRAMES))
    np.testing.assert_allclose(outputs(after), outputs(model), rtol=1e-3, atol=1e-4)
    assert loss(after) < loss(model) / 4
