"""Unequal channels are brought to similar sizes wherever a factor gets through, and the network computes the same."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.judge.engines import Probe, Simulated
from calibration.quantise import equalise
from calibration.quantise.equalise import LIMIT, equalised, factors, joined
from runtime.errors import GateFailed
from tests.calibration.quantise.drawn import ROWS, network, node


def uneven(graph, tensor, frame):
    """How many times the largest channel is as large as the smallest."""
    largest = np.abs(Probe(graph.model, [tensor]).run_all(frame)[0]).max(axis=(0, 2, 3))
    return float(largest.max() / largest.min())


RNG = np.random.default_rng(1)
DEPTHWISE, DENSE, PAIRS = (RNG.normal(size=(6, *rest)) for rest in ((1, 3, 3), (6, 1, 1), (3, 1, 1)))
AROUND = np.array([0, 0, 1, 1, 0, 0, 1, 1])
THROUGH = {
    "depthwise": (network(node("Conv", "x w", "y", group=6), w=DEPTHWISE), "x y"),
    "groups": (network(node("Conv", "x w", "h", group=2), node("Relu", "h", "y"), w=PAIRS), "x y"),
    "a shortcut": (network(node("Conv", "x w b", "h"), node("Add", "h x", "y"), w=DENSE * ROWS,
                           b=RNG.normal(size=6)), "x y"),
    "concatenation": (network(node("Conv", "x w", "h"), node("Concat", "h x", "c", axis=1), node("Relu", "c", "y"),
                              w=np.abs(DENSE), width=12), "x y"),
    "a gate": (network(node("GlobalAveragePool", "x", "p"), node("Conv", "p w", "h"), node("Sigmoid", "h", "g"),
                       node("Mul", "g x", "y"), w=DENSE / 100), "x y"),
    "interpolation": (network(node("Pad", "x pads", "p"), node("MaxPool", "p", "m", kernel_shape=[2, 2]),
                              node("Resize", "m - factors", "y", mode="linear"),
                              pads=AROUND, factors=np.float32([1, 1, 2, 2])), "x y"),
    "a matrix that pools": (network(node("MatMul", "x m", "y"), m=RNG.normal(size=(48, 8))), "x y"),
    "PReLU": (network(node("PRelu", "ya slope", "y"), slope=np.full((6, 1, 1), 0.2)), "y"),
    "PReLU as a maximum": (network(node("Mul", "ya slope", "s"), node("Max", "ya s", "y"),
                                   slope=np.full((6, 1, 1), 0.2)), "y"),
}


@pytest.mark.parametrize("what", THROUGH)
def test_unequal_channels_become_more_equal_and_the_network_computes_the_same(frames, what):
    graph, scaled = THROUGH[what]
    after, frame = equalised(graph, frames), frames.read(0)
    expected = Simulated(graph.model).run(frame)
    np.testing.assert_allclose(Simulated(after.model).run(frame), expected, atol=1e-4 * np.abs(expected).max())
    for tensor in scaled.split():
        assert uneven(after, tensor, frame) < uneven(graph, tensor, frame) / 3, tensor


SHUT = {
    "hard-swish": network(node("HardSwish", "x", "y")),
    "a sum with a constant": network(node("Add", "x c", "y"), c=np.ones((1, 6, 1, 1))),
    "weights that two convolutions share": network(node("Conv", "x w", "h"), node("Conv", "h w", "y"), w=DENSE),
    "a bias of one number for all": network(
        node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "row"), node("Gemm", "row w b", "g"),
        node("Reshape", "g back", "y"), w=DENSE[:, :, 0, 0], b=np.ones(1), back=np.array([1, 6, 1, 1])),
    "padding with something": network(node("Pad", "x pads one", "y"), pads=AROUND, one=np.float32(1)),
    "channels in another order": network(
        node("Reshape", "x apart", "h"), node("Transpose", "h", "s", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "s back", "y"), apart=np.array([1, 2, 3, 32, 48]), back=np.array([1, 6, 32, 48])),
}


@pytest.mark.parametrize("what", SHUT)
def test_what_lets_no_factor_through_is_left_as_it_is(frames, what):
    graph = SHUT[what]
    after = equalised(graph, frames)
    assert np.array_equal(after.array("a"), graph.array("a"))


def test_a_graph_that_computes_something_else_afterwards_is_refused(frames, monkeypatch):
    monkeypatch.setattr(equalise, "_multiply", lambda graph, node, read, written: graph.replace(
        node.input[1], graph.array(node.input[1]) * 1.01))
    with pytest.raises(GateFailed, match="once channels are equalised"):
        equalised(THROUGH["a shortcut"][0], frames)


def test_channels_that_are_tied_have_one_label_the_lowest():
    ties = [(np.array([1, 2]), np.array([3, 4])), (np.array([5]), np.array([3])), (np.array([6]), np.array([0]))]
    assert joined(ties, 8).tolist() == [0, 1, 2, 1, 2, 1, 0, 7]


def test_channels_that_are_tied_share_a_factor_and_the_largest_of_them_decides():
    label, largest = np.array([0, 0, 2, 2, 4, 5]), np.array([9, 4, 1, 100, 1, 0], np.float32)
    found = factors(label, largest)
    np.testing.assert_allclose(found[:2], 1)  # what must stay as it is
    assert found[2] == found[3]
    assert found[4] / found[3] == pytest.approx(10)  # √100 of √1
    assert found[5] == 1  # always zero
    assert factors(np.arange(4), np.array([1, 1, 1, 1e-12], np.float32)).max() == pytest.approx(LIMIT)
