"""A 1x1 convolution before an interpolation computes what it did behind it, and goes nowhere else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.onnx.interpolation import pointwise_before_interpolation
from runtime.sessions.onnx import OnnxSession

X = np.random.default_rng(0).normal(0, 1, (1, 6, 5, 7)).astype(np.float32)
RNG = np.random.default_rng(1)
CONSTANTS = {
    "w": RNG.normal(0, 1, (3, 6, 1, 1)), "b": RNG.normal(0, 1, 3), "wide": RNG.normal(0, 1, (9, 6, 1, 1)),
    "three": RNG.normal(0, 1, (3, 6, 3, 3)), "size": np.array([1, 6, 9, 11]), "scales": np.array([1, 1, 2, 2]),
    "same": np.array([1, 6, 5, 7]), "less": np.array([1, 6, 3, 4])}


def up(x, y, size="size", **attributes):
    inputs = [x, "", size] if size == "scales" else [x, "", "", size]
    return helper.make_node("Resize", inputs, [y], name=y, **{"mode": "linear", **attributes})


def conv(x, y, *weights, **attributes):
    return helper.make_node("Conv", [x, *weights], [y], name=y, **attributes)


def model(nodes, shape=(1, 3, 9, 11), also=()):
    used = {name for node in nodes for name in node.input}
    constants = [numpy_helper.from_array(value.astype(np.float32 if value.dtype == float or name == "scales" else
                                                      np.int64), name)
                 for name, value in CONSTANTS.items() if name in used]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape),
               *(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in also)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)], outputs,
                              constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(graph):
    return OnnxSession(graph.SerializeToString(), optimise=False).run(X)


def order(graph):
    return [node.op_type for node in graph.graph.node]


@pytest.mark.parametrize("mode", ["half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize(("size", "shape"), [("size", (1, 3, 9, 11)), ("scales", (1, 3, 10, 14))])
def test_a_convolution_moves_with_its_bias(mode, size, shape):
    before = model([up("x", "a", size, coordinate_transformation_mode=mode), conv("a", "y", "w", "b")], shape)
    after = pointwise_before_interpolation(before)
    onnx.checker.check_model(after, full_check=True)
    assert order(after) == ["Conv", "Resize"]
    np.testing.assert_allclose(run(after), run(before), atol=1e-5)


def test_of_a_sum_every_interpolation_gets_a_convolution_and_the_rest_one_with_the_bias():
    nodes = [up("x", "a"), helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Neg", ["a"], ["n"]),
             helper.make_node("Add", ["r", "n"], ["s"]), helper.make_node("Abs", ["x"], ["c"]), up("c", "d"),
             helper.make_node("Add", ["s", "d"], ["e"]), helper.make_node("Sqrt", ["c"], ["f"]), up("f", "g"),
             helper.make_node("Add", ["g", "e"], ["h"]), conv("h", "y", "w", "b")]
    before = model(nodes)
    after = pointwise_before_interpolation(before)
    onnx.checker.check_model(after, full_check=True)
    np.testing.assert_allclose(run(after), run(before), atol=1e-5)
    convolutions = [node for node in after.graph.node if node.op_type == "Conv"]
    assert sorted(len(node.input) for node in convolutions) == [2, 2, 3]
    assert len({node.input[1] for node in convolutions}) == 3  # later steps change weights for one reader
    assert order(after).count("Resize") == 3  # one is read by others, and stays
    assert after.graph.node[-1].output[0] == "y"


@pytest.mark.parametrize("nodes", [
    [up("x", "a"), conv("a", "y", "wide")],  # it makes more channels than it reads
    [up("x", "a"), conv("a", "y", "three", pads=[1, 1, 1, 1])],  # it reads neighbours
    [up("x", "a"), conv("a", "y", "w", strides=[2, 2])],
    [up("x", "a", mode="nearest"), conv("a", "y", "w")],
    [up("x", "a", mode="cubic"), conv("a", "y", "w")],
    [up("x", "a", "less"), conv("a", "y", "w")],  # there were more cells before
    [up("x", "a"), helper.make_node("Relu", ["a"], ["r"]), conv("r", "y", "w")],  # not linear
], ids=["wide", "3x3", "stride", "nearest", "cubic", "smaller", "relu"])
def test_what_would_change_the_result_or_cost_more_stays(nodes):
    shape = {"wide": (1, 9, 9, 11)}.get(nodes[-1].input[1])
    before = model(nodes, shape)
    assert pointwise_before_interpolation(before) == before


def test_an_interpolation_that_others_read_stays():
    before = model([up("x", "a"), conv("a", "y", "w")], also=("a",))
    assert pointwise_before_interpolation(before) == before


def test_other_maps_of_a_sum_that_are_spread_over_it_keep_it_whole():
    nodes = [up("x", "a"), helper.make_node("GlobalAveragePool", ["x"], ["p"]),
             helper.make_node("Add", ["a", "p"], ["s"]), conv("s", "y", "w", "b")]
    assert pointwise_before_interpolation(model(nodes)) == model(nodes)
