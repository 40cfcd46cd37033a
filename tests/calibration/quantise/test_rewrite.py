"""Rewriting a graph changes how it is written, never what it computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.quantise.rewrite import cast_before_transpose, drop_unused, mean_by_rows
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


def test_the_mean_stays_where_it_is_unless_it_is_the_first_thing_that_happens():
    model = camera_graph()
    cast_before_transpose(model.graph)
    before = model.SerializeToString()
    mean_by_rows(model.graph)
    assert model.SerializeToString() == before
