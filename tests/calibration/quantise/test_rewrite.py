"""Rewriting a graph changes how it is written, never what it computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.quantise.rewrite import cast_before_transpose, drop_unused, gates_by_table, relus_of_integers
from runtime.sessions.onnx import OnnxSession


def camera_graph(*, between: int = 0, readers: int = 1) -> onnx.ModelProto:
    """uint8 frame → Transpose → (`between` unrelated nodes) → Cast by each reader → their sum minus a mean."""
    nodes = [helper.make_node("Transpose", ["frame"], ["planes"], name="turn", perm=[0, 3, 1, 2])]
    nodes += [helper.make_node("Neg", ["mean"], [f"other{i}"], name=f"neg{i}") for i in range(between)]
    nodes += [helper.make_node("Cast", ["planes"], [f"float{i}"], name=f"cast{i}", to=TensorProto.FLOAT)
              for i in range(readers)]
    nodes += [helper.make_node("Sum", [f"float{i}" for i in range(readers)], ["sum"], name="sum"),
              helper.make_node("Sub", ["sum", "mean"], ["y"], name="sub")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 4, 6, 3])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 6])],
                              [numpy_helper.from_array(np.float32([[[[1]], [[2]], [[3]]]]), "mean")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("between", [0, 2])
def test_the_cast_takes_the_transposes_place_and_nothing_else_moves(between):
    model = camera_graph(between=between)
    frame = np.random.default_rng(0).integers(0, 256, (1, 4, 6, 3), dtype=np.uint8)
    cast_before_transpose(model.graph)
    assert [n.name for n in model.graph.node] == ["cast0", *(f"neg{i}" for i in range(between)), "turn", "sum", "sub"]
    onnx.checker.check_model(model, full_check=True)
    expected = frame.transpose(0, 3, 1, 2) - np.float32([1, 2, 3]).reshape(1, 3, 1, 1)
    assert (OnnxSession(model.SerializeToString()).run(frame) == expected).all()


def test_a_transposed_frame_with_two_readers_stays_as_it_is():
    model, before = camera_graph(readers=2), camera_graph(readers=2)
    cast_before_transpose(model.graph)
    assert model == before


def test_only_initialisers_that_nobody_reads_are_dropped():
    model = camera_graph()
    model.graph.initializer.append(numpy_helper.from_array(np.float32([0]), "forgotten"))
    drop_unused(model.graph)
    assert [tensor.name for tensor in model.graph.initializer] == ["mean"]


def rounded_graph(*nodes: onnx.NodeProto, zero: int = 100) -> onnx.ModelProto:
    """uint8 frame → float "x", rounded to steps of 0.05 around `zero` → the nodes, which read "x_dq" → "y", rounded."""
    scalars = {"x_scale": np.float32(0.05), "x_zero": np.uint8(zero),
               "y_scale": np.float32(0.02), "y_zero": np.uint8(20), "offset": np.float32(zero * 0.05)}
    before = [helper.make_node("Cast", ["frame"], ["f"], to=TensorProto.FLOAT),
              helper.make_node("Mul", ["f", "x_scale"], ["scaled"]),
              helper.make_node("Sub", ["scaled", "offset"], ["x"]),
              helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_q"]),
              helper.make_node("DequantizeLinear", ["x_q", "x_scale", "x_zero"], ["x_dq"])]
    after = [helper.make_node("QuantizeLinear", ["y", "y_scale", "y_zero"], ["y_q"], name="y_q"),
             helper.make_node("DequantizeLinear", ["y_q", "y_scale", "y_zero"], ["y_dq"]),
             helper.make_node("Identity", ["y_dq"], ["o"])]
    graph = helper.make_graph([*before, *nodes, *after], "g",
                              [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 4, 64, 3])],
                              [helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 4, 64, 3])],
                              [numpy_helper.from_array(np.asarray(value), name) for name, value in scalars.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


EVERY_BYTE = np.arange(768, dtype=np.uint16).astype(np.uint8).reshape(1, 4, 64, 3)
VALUES = 0.05 * (EVERY_BYTE.astype(np.float32) - 100)


@pytest.mark.parametrize(("kind", "settings", "exact"), [
    ("HardSwish", {}, VALUES * np.clip(VALUES / 6 + 0.5, 0, 1)),
    ("HardSigmoid", {}, np.clip(0.2 * VALUES + 0.5, 0, 1)),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.25}, np.clip(VALUES / 6 + 0.25, 0, 1))])
def test_a_gate_is_looked_up_and_is_at_most_a_step_off(kind, settings, exact):
    model = rounded_graph(helper.make_node(kind, ["x_dq"], ["y"], name="gate", **settings))
    gates_by_table(model.graph)
    onnx.checker.check_model(model, full_check=True)
    assert kind not in {node.op_type for node in model.graph.node}
    found = OnnxSession(model.SerializeToString(), optimise=False).run(EVERY_BYTE)
    step = (np.abs(VALUES) + 2.56 if kind == "HardSwish" else 1) / 255  # of the gate; and half of y's 0.02
    assert (np.abs(found - np.clip(exact, -0.4, 4.7)) <= step + 1e-6).all()
    kernels = OnnxSession(model.SerializeToString()).run(EVERY_BYTE)
    np.testing.assert_allclose(kernels, found, atol=0.0201)  # a product half-way between two of y's steps
    assert np.mean(np.isclose(kernels, found)) > 0.98


@pytest.mark.parametrize("gate", [
    helper.make_node("HardSwish", ["x"], ["y"], name="gate"),
    helper.make_node("HardSigmoid", ["x_dq"], ["y"], name="gate", beta=1.5),
    helper.make_node("HardSigmoid", ["x_dq"], ["y"], name="gate", alpha=-0.2)])
def test_a_gate_that_reads_floats_or_whose_corners_no_byte_stands_for_stays_as_it_is(gate):
    model = rounded_graph(gate)
    gates_by_table(model.graph)
    assert gate in list(model.graph.node)


def test_a_relu_of_integers_cuts_them_off_at_the_zero_point():
    model = rounded_graph(helper.make_node("Relu", ["x_dq"], ["y"], name="relu"))
    relus_of_integers(model.graph)
    drop_unused(model.graph)
    onnx.checker.check_model(model, full_check=True)
    *_, rounded, cut, _, _ = (node.op_type for node in model.graph.node)
    assert (rounded, cut) == ("QuantizeLinear", "Clip")
    found = OnnxSession(model.SerializeToString()).run(EVERY_BYTE)
    np.testing.assert_allclose(found, np.maximum(VALUES, 0), atol=1e-6)  # y's own steps are gone


def test_a_relu_that_a_float_operator_reads_too_stays_as_it_is():
    model = rounded_graph(helper.make_node("Relu", ["x_dq"], ["r"], name="relu"), helper.make_node("Neg", ["r"], ["n"]),
                          helper.make_node("Add", ["r", "n"], ["y"]))
    before = model.SerializeToString()
    relus_of_integers(model.graph)
    assert model.SerializeToString() == before
