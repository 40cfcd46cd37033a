"""What bfloat16 loses, simulated by rounding: `openvino-bf16` needs a processor that these tests cannot count on.

Every weight, and every tensor that a float operator writes, is rounded to bfloat16; sums are float32, as in AVX-512
BF16 and AMX. An engine may round in fewer places, as between operators that it fuses, or in others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.shape_inference import infer_shapes

from calibration.data.coverage import Chosen
from calibration.judge.measure import Judge, find_data, read_held_out
from runtime.artifact import open_artifact
from runtime.sessions.onnx import OnnxSession
from tests.arm64.__main__ import NETWORKS, artifact

FLOAT, BFLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.BFLOAT16
EXACT = {"QuantizeLinear", "DequantizeLinear", "Resize"}
"""Operators whose float constants are scales, which no engine rounds."""


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its weights, and whatever its float operators write, rounded to bfloat16; integers stay."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    exact = {name for node in model.graph.node if node.op_type in EXACT for name in node.input}
    for weight in result.graph.initializer:
        if weight.data_type == FLOAT and weight.name not in exact:
            weight.CopyFrom(numpy_helper.from_array(nearest(numpy_helper.to_array(weight)), weight.name))
    inferred = infer_shapes(model).graph
    floats = {value.name for value in [*inferred.value_info, *inferred.output]
              if value.type.tensor_type.elem_type == FLOAT}
    del result.graph.node[:]
    for node in model.graph.node:
        copy = result.graph.node.add()
        copy.CopyFrom(node)
        copy.input[:] = [f"{name}/rounded" if name in floats else name for name in node.input]
        for name in sorted(floats.intersection(node.output)):
            to = FLOAT if node.op_type == "DequantizeLinear" else BFLOAT16
            result.graph.node.extend([helper.make_node("Cast", [name], [f"{name}/cast"], to=to),
                                      helper.make_node("Cast", [f"{name}/cast"], [f"{name}/rounded"], to=FLOAT)])
    for output in result.graph.output:
        output.name = f"{output.name}/rounded" if output.name in floats else output.name
    return result


def nearest(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """float32 of any shape → the nearest values with 8 bits of mantissa, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    kept = (bits + (0x7FFF + (bits >> 16 & 1))) & np.uint32(0xFFFF0000)
    return np.asarray(kept.astype(np.uint32).view(np.float32).reshape(values.shape))


def test_weights_are_rounded_as_torch_rounds_them():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=(64, 65)).astype(np.float32)
    values.flat[:3] = 1 + 2**-8, 1 + 3 * 2**-8, 0  # two ties and a zero
    assert np.array_equal(nearest(values), torch.from_numpy(values).bfloat16().float().numpy())


def test_sums_are_rounded_and_integers_are_not():
    scale, offset = (numpy_helper.from_array(np.float32(value), name) for value, name in ((1.001, "s"), (1.001, "o")))
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["x", "s"], ["exact"]),
         helper.make_node("Add", ["exact", "o"], ["sum"])], "tiny",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, [3])],
        [helper.make_tensor_value_info(name, FLOAT, [3]) for name in ("exact", "sum")], [scale, offset])
    model = rounded(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    import onnxruntime
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.array([1, 100, 201], np.uint8)
    exact, total = session.run(None, {"x": x})
    assert np.array_equal(exact, x * np.float32(1.001))
    assert np.array_equal(total, nearest(exact + nearest(np.float32(1.001))))
    assert not np.array_equal(total, exact + np.float32(1.001))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_keeps_its_classes_in_bf16(name, data, tmp_path):
    float_artifact, file = open_artifact(artifact(tmp_path, name, "fp32", "onnx", data / "camvid"))
    held_out = read_held_out(find_data(data / "camvid"), Chosen((), float_artifact.preprocess, ""), float_artifact, 25)
    judge = Judge(float_artifact, OnnxSession(file), held_out)
    score = judge.score(OnnxSession(rounded(onnx.load(file)).SerializeToString(), optimise=False))
    assert 0.996 <= score.agreement.mean() < 1
    assert judge.drop(score) <= 0.05
