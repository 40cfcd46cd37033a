"""Depthwise convolutions come in whole vectors wherever channels may be added, and the network computes the same."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.judge.engines import Simulated
from calibration.quantise import pad
from calibration.quantise.graph import FloatGraph
from calibration.quantise.pad import padded
from runtime.errors import GateFailed
from tests.calibration.quantise.drawn import network, node

RNG = np.random.default_rng(1)
DEPTHWISE, DENSE = RNG.normal(size=(6, 1, 3, 3)), RNG.normal(size=(6, 6, 1, 1))
DEEP = node("Conv", "x w", "d", group=6, pads=[1, 1, 1, 1])


def channels(graph: FloatGraph) -> list[int]:
    """Of what each depthwise convolution reads."""
    return [graph.shapes[each.input[0]][1] for each in graph.graph.node
            if any(a.name == "group" and a.i > 1 for a in each.attribute)]


WIDENED = {
    "a depthwise convolution": (network(node("Conv", "x w b", "y", group=6), w=DEPTHWISE, b=RNG.normal(size=6)), [8]),
    "an inverted residual with a gate": (network(
        DEEP, node("HardSwish", "d", "h"), node("GlobalAveragePool", "h", "p"), node("Conv", "p r s", "q"),
        node("HardSigmoid", "q", "g"), node("Mul", "h g", "m"), node("Conv", "m e", "n"), node("Add", "n d", "y"),
        w=DEPTHWISE, r=DENSE, s=RNG.normal(size=6), e=DENSE), [8]),
    "two in a row, the second on a smaller map": (network(
        DEEP, node("Relu", "d", "r"), node("Conv", "r v", "y", group=6, strides=[2, 2]), w=DEPTHWISE, v=DEPTHWISE),
        [8, 8]),
    "interpolation by factors": (network(
        DEEP, node("Resize", "d - factors", "y", mode="linear"), w=DEPTHWISE, factors=np.float32([1, 1, 2, 2])), [8]),
    "what another convolution cuts off": (network(
        node("Conv", "x e", "n"), node("Conv", "n w", "y", group=6), e=DENSE, w=DEPTHWISE), [8]),
}


@pytest.mark.parametrize("what", WIDENED)
def test_depthwise_convolutions_get_whole_vectors_and_the_network_computes_the_same(frames, what):
    graph, wide = WIDENED[what]
    after, frame = padded(graph, 4, frames), frames.read(0)
    assert channels(after) == wide
    assert set(channels(graph)) == {6}  # the one that was given stays as it is
    expected = Simulated(graph.model).run(frame)
    assert Simulated(after.model).run(frame).shape == expected.shape
    np.testing.assert_allclose(Simulated(after.model).run(frame), expected, atol=1e-5 * np.abs(expected).max())


LEFT = {
    "concatenation": network(DEEP, node("Concat", "d x", "y", axis=1), w=DEPTHWISE, width=12),
    "two outputs for each channel": network(
        node("Conv", "x w", "y", group=6), w=RNG.normal(size=(12, 1, 3, 3)), width=12),
    "interpolation to given sizes": network(DEEP, node("Resize", "d - - sizes", "y", mode="linear"), w=DEPTHWISE,
                                            sizes=np.array([1, 6, 16, 24])),
    "weights that two share": network(DEEP, node("Conv", "d w", "y", group=6), w=DEPTHWISE),
    "a constant for each channel": network(DEEP, node("Mul", "d c", "y"), w=DEPTHWISE, c=RNG.normal(size=(1, 6, 1, 1))),
    "channels in another order": network(
        DEEP, node("Reshape", "d apart", "h"), node("Transpose", "h", "s", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "s back", "y"), w=DEPTHWISE, apart=np.array([1, 2, 3, 32, 48]), back=np.array([1, 6, 32, 48])),
}


@pytest.mark.parametrize("what", LEFT)
def test_where_the_number_of_channels_matters_nothing_is_added(frames, what):
    graph = LEFT[what]
    assert padded(graph, 4, frames).model.graph == graph.model.graph


def test_a_network_of_whole_vectors_stays_as_it_is(frames):
    graph, _ = WIDENED["a depthwise convolution"]
    assert padded(graph, 3, frames).model.graph == graph.model.graph


def test_a_graph_that_computes_something_else_afterwards_is_refused(frames, monkeypatch):
    grown = pad._grow

    def spoilt(tensor, shape):
        grown(tensor, shape)
        tensor.raw_data = np.roll(np.frombuffer(tensor.raw_data, np.float32), 1).tobytes()

    monkeypatch.setattr(pad, "_grow", spoilt)
    with pytest.raises(GateFailed, match="once depthwise convolutions are padded"):
        padded(WIDENED["a depthwise convolution"][0], 4, frames)
