from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.onnx.fp16 import float16_from_float32
from export.onnx.graph import gelu_as_engines_know_it, global_pool_from_reduce_mean, prelu_as_maximum
from runtime.sessions.onnx import OnnxSession

X = np.random.default_rng(0).normal(0, 1, (1, 4, 6, 6)).astype(np.float32)


def model(nodes, weights=(), shape=(1, 4, 6, 6), out=(1, 4, 1, 1)):
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
                              [numpy_helper.from_array(v, n) for n, v in weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_a_mean_over_height_and_width_becomes_a_global_pool(axes):
    before = model([helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)], [("axes", np.array(axes))])
    after = global_pool_from_reduce_mean(before)
    assert [n.op_type for n in after.graph.node] == ["GlobalAveragePool"]
    assert not after.graph.initializer
    np.testing.assert_allclose(OnnxSession(after.SerializeToString()).run(X), X.mean((2, 3), keepdims=True), atol=1e-6)


@pytest.mark.parametrize(("axes", "keep", "out"), [([1], 1, (1, 1, 6, 6)), ([2, 3], 0, (1, 4)), ([3], 1, (1, 4, 6, 1))])
def test_other_means_stay_as_they_are(axes, keep, out):
    before = model([helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keep)], [("axes", np.array(axes))],
                   out=out)
    assert global_pool_from_reduce_mean(before) == before


def test_gelu_is_written_as_onnx_runtime_fuses_it(tmp_path):
    def fused(graph):
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]

    nodes = [helper.make_node(kind, list(inputs), [output]) for kind, inputs, output in (
        ("Div", ("x", "root"), "a"), ("Erf", ("a",), "b"), ("Add", ("b", "one"), "c"), ("Mul", ("half", "c"), "d"),
        ("Mul", ("x", "d"), "y"))]
    constants = [(name, np.array(value, np.float32)) for name, value in (("root", 2 ** 0.5), ("one", 1), ("half", 0.5))]
    before = model(nodes, constants, out=X.shape)
    after = gelu_as_engines_know_it(before)
    assert "Erf" in fused(before)
    assert fused(after) == ["Gelu"]
    expected = torch.nn.functional.gelu(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(OnnxSession(after.SerializeToString()).run(X), expected, atol=1e-6)


def test_half_a_bracket_that_is_read_twice_is_no_gelu():
    nodes = [helper.make_node("Erf", ["x"], ["b"]), helper.make_node("Add", ["b", "one"], ["c"]),
             helper.make_node("Mul", ["half", "c"], ["d"]), helper.make_node("Mul", ["x", "d"], ["e"]),
             helper.make_node("Add", ["e", "d"], ["y"])]
    before = model(nodes, [("one", np.array(1, np.float32)), ("half", np.array(0.5, np.float32))], out=X.shape)
    assert gelu_as_engines_know_it(before) == before


def prelu(*slopes):
    return model([helper.make_node("PRelu", ["x", "slope"], ["y"], name="p")],
                 [("slope", np.array(slopes, np.float32).reshape(-1, 1, 1))], out=X.shape)


@pytest.mark.parametrize("slopes", [(0.25,), (0.2, -0.5, 0, 1)])
def test_prelu_becomes_a_maximum_of_the_same_values(slopes):
    before = prelu(*slopes)
    after = prelu_as_maximum(before)
    assert [node.op_type for node in after.graph.node] == ["Mul", "Max"]
    assert np.array_equal(OnnxSession(after.SerializeToString()).run(X), OnnxSession(before.SerializeToString()).run(X))


def test_prelu_with_a_slope_above_1_is_no_maximum():
    assert prelu_as_maximum(prelu(0.2, 1.5, 0, 0)) == prelu(0.2, 1.5, 0, 0)


def convolutions():
    w = np.random.default_rng(1).normal(0, 0.3, (4, 4, 1, 1)).astype(np.float32)
    return model([helper.make_node("Mul", ["x", "two"], ["a"], name="entry"),
                  helper.make_node("Conv", ["a", "w"], ["b"], name="first"),
                  helper.make_node("Conv", ["b", "w"], ["c"], name="second"),
                  helper.make_node("Resize", ["c", "", "scales"], ["y"], name="up", mode="nearest")],
                 [("w", w), ("two", np.array([2], np.float32)), ("scales", np.array([1, 1, 2, 2], np.float32))],
                 out=(1, 4, 12, 12))


def test_float16_begins_at_the_first_convolution_and_ends_at_the_output():
    half = float16_from_float32(convolutions())
    onnx.checker.check_model(half, full_check=True)
    assert [n.op_type for n in half.graph.node] == ["Mul", "Cast", "Conv", "Conv", "Resize", "Cast"]
    types = {t.name: t.data_type for t in half.graph.initializer}
    assert types["w_as_fp16"] == TensorProto.FLOAT16
    assert types["scales"] == types["two"] == TensorProto.FLOAT  # tied by the operator; before the first convolution
    run = OnnxSession(half.SerializeToString()).run(X)
    np.testing.assert_allclose(run, OnnxSession(convolutions().SerializeToString()).run(X), atol=5e-3)
    assert run.dtype == np.float32


def test_a_kept_node_computes_in_float32_between_casts():
    half = float16_from_float32(convolutions(), keep={"second"})
    onnx.checker.check_model(half, full_check=True)
    assert [n.op_type for n in half.graph.node] == ["Mul", "Cast", "Conv", "Cast", "Conv", "Cast", "Resize", "Cast"]
    second = next(n for n in half.graph.node if n.name == "second")
    assert second.input[1] == "w"


def test_a_weight_beyond_float16_is_named():
    big = model([helper.make_node("Conv", ["x", "w"], ["y"], name="first")],
                [("w", np.full((4, 4, 6, 6), 1e5, np.float32))])
    with pytest.raises(ValueError, match="weight w reaches 1e"):
        float16_from_float32(big)
