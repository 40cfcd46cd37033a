from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.trt.graph import check_for_tensorrt, ready_for_tensorrt
from runtime.errors import UserError
from runtime.sessions.onnx import OnnxSession


def entry() -> onnx.ModelProto:
    """How our exports begin: a uint8 frame is transposed (a quarter of the bytes to move) and then cast."""
    nodes = [helper.make_node("Transpose", ["frame"], ["planes"], name="turn", perm=[0, 3, 1, 2]),
             helper.make_node("Cast", ["planes"], ["float"], name="cast", to=TensorProto.FLOAT),
             helper.make_node("Sub", ["float", "mean"], ["y"], name="sub")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 4, 6, 3])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 6])],
                              [numpy_helper.from_array(np.float32([[[[1]], [[2]], [[3]]]]), "mean")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_the_frame_is_cast_first_and_the_result_is_the_same():
    model = entry()
    cast = ready_for_tensorrt(model)
    assert [node.op_type for node in cast.graph.node] == ["Cast", "Transpose", "Sub"]
    onnx.checker.check_model(cast, full_check=True)
    frame = np.random.default_rng(0).integers(0, 256, (1, 4, 6, 3), dtype=np.uint8)
    expected = frame.transpose(0, 3, 1, 2) - np.float32([1, 2, 3]).reshape(1, 3, 1, 1)
    assert (OnnxSession(cast.SerializeToString()).run(frame) == expected).all()
    assert model == entry()


def quantised(zero_point: np.ndarray | None = None, bias: bool = False) -> onnx.ModelProto:
    """x → Q → DQ → y, or an int32 initialiser → DQ."""
    constants = {"scale": np.float32(0.1), "zero": np.int8(0) if zero_point is None else zero_point,
                 "bias": np.arange(2, dtype=np.int32)}
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantise"),
             helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="dequantise")]
    if bias:
        nodes.append(helper.make_node("DequantizeLinear", ["bias", "scale"], ["b"], name="bias"))
    border = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", border[:1], border[1:],
                              [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def sampled(opset: int) -> onnx.ModelProto:
    border = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4]),
              helper.make_tensor_value_info("grid", TensorProto.FLOAT, [1, 4, 4, 2]),
              helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 4, 4])]
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], name="sample")
    return helper.make_model(helper.make_graph([node], "g", border[:2], border[2:]),
                             opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize(("model", "message"), [
    (quantised(np.uint8(0)), "node quantise: uint8 integers: TensorRT reads uint8 as int8"),
    (quantised(np.int16(0)), "node quantise: int16 integers"),
    (quantised(np.int8(3)), "node quantise: a zero-point other than 0"),
    (quantised(bias=True), "node bias: an INT32 tensor .a bias. is dequantised"),
    (sampled(20), r"'sample' is a GridSample of opset 20.*#4646"),
])
def test_what_tensorrt_would_misread_is_refused_by_node(model, message):
    with pytest.raises(UserError, match=message):
        check_for_tensorrt(model)


@pytest.mark.parametrize("model", [quantised(), sampled(16), sampled(18)])
def test_what_tensorrt_reads_rightly_passes(model):
    check_for_tensorrt(model)
