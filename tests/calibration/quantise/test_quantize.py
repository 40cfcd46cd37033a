import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.judge.lint import lint
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import (
    Plan,
    all_nodes,
    grids_from_thresholds,
    int8_from_float,
    nearest,
    output_axis,
    weight_scales,
)
from calibration.quantise.thresholds import Range
from calibration.source import load_onnx
from runtime.errors import UserError
from tests import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_onnx(tiny.artifact(tmp_path_factory.mktemp("artifact")))


@pytest.fixture
def graph(model):
    return FloatGraph(model)


def ones(graph):
    return dict.fromkeys(graph.float_tensors, Range(-1.0, 1.0))


def layer(graph, name):
    return next(found for found in graph.layers if found.name == name)


def test_layers_are_named_after_their_weights_and_roles_after_what_they_do(graph):
    roles = {found.name: found.role for found in graph.layers if found.macs}
    assert roles == {"stem.0": "first convolution", "down.0": "convolution", "gate.1": "SE gate",
                     "classifier": "classifier"}
    assert layer(graph, "hard-swish after stem.0").op == "HardSwish"
    assert layer(graph, "hard-sigmoid after gate.1").op == "HardSigmoid"


def test_macs_are_output_size_times_weights_per_output(graph):
    assert layer(graph, "stem.0").macs == 8 * 16 * 24 * 27
    assert layer(graph, "gate.1").macs == 16 * 16
    assert layer(graph, "classifier").macs == 11 * 8 * 12 * 16


def test_weights_round_to_the_nearest_step_of_their_own_channel():
    weight = np.array([[1.27, -0.634, 0.126, -0.126], [0.5, 0.0, 0.003, -0.001]], np.float32)
    assert nearest(weight, np.array([0.01, 0.5 / 127], np.float32), 0).tolist() == [[127, -63, 13, -13], [127, 0, 1, 0]]


def convolution(**attributes):
    return helper.make_node("Conv", ["x", "w"], ["y"], **attributes)


def test_every_channel_has_a_scale_of_its_own_even_one_of_zeros():
    weight = np.array([1.26, 0.0, -0.5, 0.0, -1.26, -1.26, 0.0, 0.0, 0.0], np.float32).reshape(3, 3, 1, 1)
    assert weight_scales(convolution(), weight) == pytest.approx([0.01, 0.02, 1 / 127])


def test_the_products_of_two_neighbours_fit_into_16_bits():
    """x86 without VNNI adds them there, and cuts off what does not fit."""
    rng = np.random.default_rng(0)
    dense, grouped, product = convolution(), convolution(group=2), helper.make_node("MatMul", ["x", "w"], ["y"])
    for node, shape in ((dense, (8, 3, 3, 3)), (dense, (8, 6, 1, 1)), (grouped, (6, 1, 3, 3)), (product, (6, 8))):
        weight, axis = rng.normal(size=shape).astype(np.float32), output_axis(node)
        integers = np.moveaxis(nearest(weight, weight_scales(node, weight), axis).astype(int), axis, 0)
        order = np.moveaxis(integers, 1, -1).reshape(len(integers), -1)
        sums = np.abs(order[:, :-1]) + np.abs(order[:, 1:])
        assert 255 * sums.max() <= np.iinfo(np.int16).max
        assert sums.max(axis=1).min() > 124  # and no finer scale would do


def test_a_depthwise_convolutions_neighbours_are_never_added_up_in_16_bits():
    weight = np.ones((4, 1, 3, 3), np.float32)
    assert weight_scales(convolution(group=4), weight) == pytest.approx(1 / 127)
    assert weight_scales(convolution(group=2), weight) == pytest.approx(2 / 126)


def test_before_a_relu_a_tensor_takes_the_range_that_passes_it(graph):
    relu = layer(graph, "ReLU after down.0").node
    before, after = graph.nodes[relu].input[0], graph.nodes[relu].output[0]
    grids = grids_from_thresholds(graph, ones(graph) | {before: Range(-100, 90), after: Range(0, 2.54)},
                                  {before, after})
    assert grids[before] == grids[after]
    assert grids[after].scale == pytest.approx(0.02)


def test_before_a_hard_swish_the_range_reaches_3_at_least_and_before_a_hard_sigmoid_at_most(graph):
    swish, sigmoid = (graph.nodes[layer(graph, name).node].input[0]
                      for name in ("hard-swish after stem.0", "hard-sigmoid after gate.1"))
    wide = Range(-50.0, 50.0)
    grids = grids_from_thresholds(graph, ones(graph) | {swish: wide, sigmoid: wide}, {swish, sigmoid})
    assert grids[swish].scale == pytest.approx(3 / 127)
    assert grids[sigmoid].scale == pytest.approx(3 / 127)


def test_the_int8_graph_has_int8_weights_float_biases_and_passes_its_own_lint(graph):
    nodes = all_nodes(graph)
    quantised = int8_from_float(graph, ones(graph), Plan(nodes))
    stored = {tensor.name: tensor for tensor in quantised.graph.initializer}
    producer = {name: node for node in quantised.graph.node for name in node.output}
    assert sum(node.op_type == "Conv" and node.name not in nodes for node in quantised.graph.node) == 1  # the first
    for node in quantised.graph.node:
        if node.op_type == "Conv" and node.name in nodes:
            pair = producer[node.input[1]]
            assert stored[pair.input[0]].data_type == TensorProto.INT8
            assert numpy_helper.to_array(stored[pair.input[1]]).shape == (stored[pair.input[0]].dims[0],)
            assert all(stored[bias].data_type == TensorProto.FLOAT for bias in node.input[2:])
            assert producer[node.input[0]].op_type == "DequantizeLinear"
    assert lint(quantised) == []


def test_a_layer_kept_in_float_keeps_its_weights_and_lint_accepts_it(graph):
    keep = layer(graph, "down.0").node
    quantised = int8_from_float(graph, ones(graph), Plan(all_nodes(graph) - {keep}))
    stored = {tensor.name: tensor.data_type for tensor in quantised.graph.initializer}
    assert stored[graph.nodes[keep].input[1]] == TensorProto.FLOAT
    assert lint(quantised) == []


def test_weights_alone_leave_no_activation_pair(graph):
    quantised = int8_from_float(graph, {}, Plan(all_nodes(graph), activations=False))
    assert not any(node.op_type == "QuantizeLinear" for node in quantised.graph.node)
    assert sum(node.op_type == "DequantizeLinear" for node in quantised.graph.node) == 3


def test_a_fully_connected_layer_in_a_gemm_is_quantised_along_its_outputs():
    weight = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    model = helper.make_model(helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["h"], transB=1, name="fc"), helper.make_node("Relu", ["h"], ["y"])],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])], [numpy_helper.from_array(weight, "w")]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    graph = FloatGraph(model)
    quantised = int8_from_float(graph, {"h": Range(0, 1), "x": Range(0, 1)}, Plan(frozenset({"fc"}), activations=False))
    scales = next(numpy_helper.to_array(t) for t in quantised.graph.initializer if t.name == "w_of_fc_scale")
    assert scales == pytest.approx(np.array([3, 7, 11]) / 126)


def test_a_gelu_that_is_written_out_is_one_activation_and_stays_in_float():
    nodes = [helper.make_node(kind, list(inputs), [output], name=output) for kind, inputs, output in (
        ("MatMul", ("x", "w"), "m"), ("Div", ("m", "root"), "a"), ("Erf", ("a",), "b"), ("Add", ("b", "one"), "c"),
        ("Mul", ("m", "c"), "d"), ("Mul", ("d", "half"), "e"), ("MatMul", ("e", "w"), "f"), ("Add", ("f", "e"), "g"),
        ("Softmax", ("g",), "y"))]
    constants = {"w": np.eye(3), "root": 2 ** 0.5, "one": 1, "half": 0.5}
    graph = FloatGraph(helper.make_model(helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]),
        opset_imports=[helper.make_opsetid("", 18)]))
    assert {layer.role for layer in graph.layers if layer.node in set("abcde")} == {"GELU"}
    assert all_nodes(graph) == {"m", "f", "g"}


def test_a_model_that_is_quantised_already_is_refused(graph):
    with pytest.raises(UserError, match=r"quantised already.*fp32"):
        FloatGraph(int8_from_float(graph, ones(graph), Plan(all_nodes(graph))))


def broken(model, change):
    copy = onnx.ModelProto()
    copy.CopyFrom(int8_from_float(FloatGraph(model), ones(FloatGraph(model)),
                                  Plan(all_nodes(FloatGraph(model)))))
    change(copy)
    return " ".join(map(str, lint(copy)))


def test_lint_names_a_zero_point_other_than_zero(model):
    def change(copy):
        name = next(n.input[2] for n in copy.graph.node if n.op_type == "QuantizeLinear")
        next(t for t in copy.graph.initializer if t.name == name).int32_data[0] = 3
    assert "TensorRT refuses it; expected symmetric ranges" in broken(model, change)


def test_lint_names_uint8(model):
    def change(copy):
        name = next(n.input[2] for n in copy.graph.node if n.op_type == "QuantizeLinear")
        next(t for t in copy.graph.initializer if t.name == name).data_type = TensorProto.UINT8
    assert "with a mere warning" in broken(model, change)


def test_lint_names_an_int32_bias(model):
    def change(copy):
        conv = next(n for n in copy.graph.node if n.op_type == "Conv" and len(n.input) == 3)
        copy.graph.initializer.append(numpy_helper.from_array(np.zeros(8, np.int32), "bias_int32"))
        pair = next(n for n in copy.graph.node if n.op_type == "DequantizeLinear")
        copy.graph.node.insert(0, helper.make_node("DequantizeLinear", ["bias_int32", pair.input[1]], ["bias_dq"],
                                                   name="bias_dq"))
        conv.input[2] = "bias_dq"
    assert "INT32 tensor (a bias)" in broken(model, change)


def test_lint_names_a_newer_opset(model):
    def change(copy):
        copy.opset_import[0].version = 21
    assert "opset 21" in broken(model, change)


def test_lint_refuses_a_float_model(model):
    with pytest.raises(UserError, match="no QuantizeLinear"):
        lint(model)
