from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.onnx.fp16 import float16_from_float32
from export.onnx.fp16_ranges import float16_where_safe, sensitive_nodes


def model(weight: float, then: float = 1.0) -> onnx.ModelProto:
    """frame → float NCHW → Conv (1×1, every weight `weight`) → Mul `then` → mean over 4×6 cells."""
    constants = {"weight": np.full((2, 3, 1, 1), weight), "then": np.array(then)}
    nodes = [("Cast", ["frame"], ["float"], {"to": TensorProto.FLOAT}),
             ("Transpose", ["float"], ["nchw"], {"perm": [0, 3, 1, 2]}),
             ("Conv", ["nchw", "weight"], ["conv"], {}), ("Mul", ["conv", "then"], ["scaled"], {}),
             ("GlobalAveragePool", ["scaled"], ["y"], {})]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, outputs, name=outputs[0], **more) for op, inputs, outputs, more in nodes], "g",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 4, 6, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 1, 1])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


FRAME = np.full((1, 4, 6, 3), 10, np.uint8)


def found(weight: float, then: float = 1.0) -> dict[str, tuple[str, float]]:
    return {node.name: (node.why, node.largest) for node in sensitive_nodes(model(weight, then), [FRAME])}


def test_small_values_leave_everything_to_float16():
    assert found(1.0) == {}  # conv 3·10 = 30, its mean's terms 24·30 = 720


def test_a_large_tensor_keeps_its_maker_and_its_readers():
    # conv 3·10·1000 = 30 000 > 16 376 = a quarter of 65 504, and so all that touches it
    assert found(1000.0) == {"conv": ("output", 30_000.0), "scaled": ("input", 30_000.0), "y": ("input", 30_000.0)}


def test_a_mean_is_kept_for_its_sum_although_its_result_is_small():
    assert found(30.0) == {"y": ("sum", 24 * 900.0)}  # result 900


def test_a_convolution_is_kept_for_partial_sums_that_cancel_in_the_end():
    cancelling = model(1000.0)
    weight = np.array([[600, -600, 1], [0, 0, 0]], np.float32).reshape(2, 3, 1, 1)
    cancelling.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight * 2, "weight"))
    assert [(n.name, n.why, n.largest) for n in sensitive_nodes(cancelling, [FRAME])] == [("conv", "sum", 24_020.0)]


def test_a_weight_beyond_float16_is_kept_rather_than_turned_into_infinity():
    assert found(1e-6, then=1e5)["scaled"] == ("weight", 1e5)


def test_nan_is_never_left_to_float16():
    assert "conv" in found(float("nan"))


def in_float16(graph: onnx.ModelProto) -> np.ndarray:
    """ONNX's own evaluator rounds every tensor to float16; ONNX Runtime's CPU kernels stay in float32 in between."""
    with np.errstate(over="ignore"):
        return ReferenceEvaluator(graph).run(None, {"frame": FRAME})[0]


def test_what_is_kept_makes_the_float16_graph_right_where_plain_float16_is_infinite():
    large = model(5000.0)  # conv 150 000
    safe, kept = float16_where_safe(large, [FRAME])
    assert not np.isfinite(in_float16(float16_from_float32(large))).any()
    assert in_float16(safe) == pytest.approx(150_000, rel=1e-3)
    assert [node.name for node in kept] == ["conv", "scaled", "y"]
