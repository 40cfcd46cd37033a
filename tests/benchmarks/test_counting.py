"""Expected numbers are worked out by hand beside each case."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.graph_cost import GraphCost, cost_of_graph


def graph(nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, ...]],
          constants: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]),
        opset_imports=[helper.make_opsetid("", 18)])


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def single(op: str, x: tuple[int, ...], constants: dict[str, np.ndarray], **attributes: object) -> GraphCost:
    return cost_of_graph(graph([helper.make_node(op, ["x", *constants], ["y"], **attributes)], {"x": x}, constants))


def test_convolution_multiplies_every_output_element_with_one_filter() -> None:
    cost = single("Conv", (1, 3, 8, 10), {"w": floats(16, 3, 3, 3), "b": floats(16)}, strides=[2, 2], pads=[1, 1, 1, 1])
    assert cost.macs == 16 * 4 * 5 * 3 * 3 * 3
    assert cost.flops == 2 * cost.macs
    assert cost.parameters == 16 * 27 + 16
    assert cost.weight_bytes == 4 * cost.parameters
    assert cost.activation_bytes == 4 * 16 * 4 * 5


def test_depthwise_convolution_sees_one_channel_per_output_channel() -> None:
    cost = single("Conv", (1, 6, 5, 7), {"w": floats(6, 1, 3, 3)}, group=6, pads=[1, 1, 1, 1])
    assert cost.macs == 6 * 5 * 7 * 9
    assert cost.parameters == 54


def test_dilation_changes_no_count() -> None:
    wide = single("Conv", (1, 4, 9, 9), {"w": floats(5, 4, 3, 3)}, dilations=[4, 4], pads=[4, 4, 4, 4])
    assert wide.macs == 5 * 81 * 4 * 9


def test_transposed_convolution_multiplies_every_input_element_with_one_filter() -> None:
    cost = single("ConvTranspose", (1, 4, 5, 6), {"w": floats(4, 7, 2, 2)}, strides=[2, 2])
    assert cost.macs == 4 * 5 * 6 * 7 * 2 * 2


def test_gemm_and_matrix_product_sum_over_the_shared_dimension() -> None:
    assert single("Gemm", (2, 30), {"w": floats(30, 5), "b": floats(5)}).macs == 2 * 30 * 5
    assert single("Gemm", (30, 2), {"w": floats(5, 30)}, transA=1, transB=1).macs == 2 * 30 * 5
    assert single("MatMul", (3, 4, 6), {"w": floats(6, 5)}).macs == 3 * 4 * 6 * 5


def test_products_of_two_activations_are_counted_and_are_no_parameters() -> None:
    cost = cost_of_graph(graph([helper.make_node("MatMul", ["x", "z"], ["y"])], {"x": (4, 6), "z": (6, 5)}))
    assert cost.macs == 4 * 6 * 5
    assert cost.parameters == 0


def test_elementwise_operators_count_once_per_element_and_are_no_macs() -> None:
    cost = single("Mul", (1, 2, 3, 4), {"w": floats(1, 2, 1, 1)})
    assert (cost.macs, cost.other_ops, cost.parameters) == (0, 24, 0)


def test_pooling_counts_what_it_reads() -> None:
    assert single("GlobalAveragePool", (1, 8, 5, 6), {}).other_ops == 8 * 5 * 6
    assert single("MaxPool", (1, 8, 4, 6), {}, kernel_shape=[2, 2], strides=[2, 2]).other_ops == 8 * 2 * 3 * 4


def test_bilinear_resize_counts_four_taps_per_element() -> None:
    scales = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    assert single("Resize", (1, 3, 4, 5), scales, mode="linear").other_ops == 3 * 8 * 10 * 4
    assert single("Resize", (1, 3, 4, 5), scales, mode="nearest").other_ops == 0


def test_moving_data_costs_nothing_but_memory() -> None:
    cost = single("Transpose", (1, 2, 3, 4), {}, perm=[0, 3, 1, 2])
    assert (cost.macs, cost.other_ops, cost.activation_bytes) == (0, 0, 96)


def test_weights_behind_a_dequantizer_are_parameters_and_their_scales_are_not() -> None:
    nodes = [helper.make_node("DequantizeLinear", ["w8", "scale"], ["w"]), helper.make_node("Conv", ["x", "w"], ["y"])]
    constants = {"w8": np.ones((5, 4, 1, 1), np.int8), "scale": np.float32(0.5)}
    cost = cost_of_graph(graph(nodes, {"x": (1, 4, 3, 3)}, constants))
    assert cost.parameters == 20
    assert cost.macs == 20 * 9
    assert cost.weight_bytes == 20 + 4


def test_operator_without_a_rule_is_listed_and_not_counted_as_zero() -> None:
    cost = single("Einsum", (3, 3), {}, equation="ii->i")
    layer, = cost.uncounted
    assert layer.macs is None
    assert layer.other_ops is None
    assert layer.reason == "no rule for Einsum"


def test_layer_of_unknown_shape_is_listed_with_the_tensor_that_is_not_known() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["n"]), helper.make_node("Neg", ["n"], ["y"])]
    cost = cost_of_graph(graph(nodes, {"x": (2, 2)}))
    assert [layer.reason for layer in cost.uncounted] == ["no rule for NonZero", "the shape of n is not known"]
    assert cost.peak_activation_bytes is None


def test_peak_counts_tensors_that_are_alive_together() -> None:
    # x and a while a is made (200), then a and b (200), then a, b and y (300): a is read again at the end
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["b"]),
             helper.make_node("Add", ["a", "b"], ["y"])]
    assert cost_of_graph(graph(nodes, {"x": (25,)})).peak_activation_bytes == 300


def test_open_size_is_set_by_the_caller() -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
             helper.make_node("Conv", ["t", "w"], ["y"])]
    model = graph(nodes, {"x": (1, 1, 1, 3)}, {"w": floats(4, 3, 1, 1)})
    for axis, name in ((1, "h"), (2, "w_")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    assert cost_of_graph(model, (5, 7)).macs == 4 * 3 * 5 * 7
    assert len(cost_of_graph(model).uncounted) == 2


@pytest.mark.parametrize("seed", [0, 1])
def test_counting_leaves_the_model_as_it_was(seed: int) -> None:
    model = graph([helper.make_node("Relu", ["x"], ["y"])], {"x": (2 + seed,)})
    before = model.SerializeToString()
    cost_of_graph(model)
    assert model.SerializeToString() == before
