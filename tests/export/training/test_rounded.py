"""The graph in torch computes what the graph computes in ONNX Runtime, in float and rounded."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from calibration.data.frames import drawn_frame
from calibration.judge.engines import Simulated
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import (
    Plan,
    all_nodes,
    grids_from_thresholds,
    int8_from_float,
    quantised_tensors,
    stored_weights,
)
from calibration.quantise.thresholds import Range
from calibration.source import load_onnx
from export.training.rounded import RoundedGraph, rounded
from runtime.errors import UserError
from tests import tiny

FRAME = drawn_frame((32, 48), 0)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> FloatGraph:
    return FloatGraph(load_onnx(tiny.artifact(tmp_path_factory.mktemp("float"))))


@pytest.fixture(scope="module")
def thresholds(graph: FloatGraph) -> dict[str, Range]:
    from calibration.judge.engines import Probe

    names = graph.float_tensors
    return {name: Range(float(min(x.min(), 0)), float(x.max()))
            for name, x in zip(names, Probe(graph.model, names).run_all(FRAME[None]))}


def logits(network: RoundedGraph, frames: np.ndarray = FRAME[None]) -> np.ndarray:
    """[N, h, w, C]."""
    with torch.no_grad():
        y = network(torch.from_numpy(frames[..., ::-1].copy()).permute(0, 3, 1, 2).float())
    return y.permute(0, 2, 3, 1).numpy()


def quantised(graph: FloatGraph, thresholds: dict[str, Range], plan: Plan) -> RoundedGraph:
    grids = grids_from_thresholds(graph, thresholds, quantised_tensors(graph, plan))
    return RoundedGraph(graph, "NHWC", {name: grid.scale for name, grid in grids.items()}, plan.nodes)


def test_without_scales_it_is_the_float_graph_for_any_number_of_frames(graph: FloatGraph) -> None:
    frames = np.stack([drawn_frame((32, 48), i) for i in range(3)])
    expected = np.concatenate([Simulated(graph.model).run(frame[None]) for frame in frames])
    assert logits(RoundedGraph(graph, "NHWC", {}, ()), frames) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_with_scales_it_is_the_simulated_int8_graph(graph: FloatGraph, thresholds: dict[str, Range]) -> None:
    plan = Plan(all_nodes(graph))
    expected = Simulated(int8_from_float(graph, thresholds, plan)).run(FRAME[None])
    found = logits(quantised(graph, thresholds, plan))
    step = np.abs(expected).max() / 127
    assert np.mean(np.abs(found - expected) < step / 10) > 0.98  # a tie may be rounded the other way
    plain = logits(RoundedGraph(graph, "NHWC", {}, ()))
    assert np.mean(np.abs(plain - expected) < step / 10) < 0.7  # in float it is something else


def test_weights_are_those_that_the_int8_file_stores(graph: FloatGraph, thresholds: dict[str, Range]) -> None:
    plan = Plan(all_nodes(graph))
    network = quantised(graph, thresholds, plan)
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv" and node.name in plan.nodes]
    assert len(convolutions) == 3
    for node in convolutions:
        found = network._stored(node, node.input[1])
        assert found is not None
        assert found.detach().numpy() == pytest.approx(stored_weights(graph, node, plan), abs=1e-6)


def test_rounding_by_hand_and_its_gradient_is_that_of_a_clip() -> None:
    x = torch.tensor([-70.0, -64.1, -0.26, 0.24, 0.76, 63.4, 63.6, 80.0], requires_grad=True)
    y = rounded(x, torch.tensor(0.5))
    y.sum().backward()
    assert y.tolist() == [-64, -64, -0.5, 0, 1, 63.5, 63.5, 63.5]
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 1, 1, 0]


def test_parameters_go_back_where_they_came_from(graph: FloatGraph) -> None:
    network = RoundedGraph(graph, "NHWC", {}, ())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    other = FloatGraph(graph.model)
    network.write_to(other)
    assert Simulated(other.model).run(FRAME[None]) == pytest.approx(logits(network), rel=1e-4, abs=1e-4)
    assert Simulated(graph.model).run(FRAME[None]) != pytest.approx(logits(network), rel=1e-2, abs=1e-2)


def drawn(*nodes: onnx.NodeProto, **constants: np.ndarray) -> FloatGraph:
    """frame → NCHW float "x" → the nodes → "y", with at least one convolution "w"."""
    before = [helper.make_node("Transpose", ["frame"], ["moved"], perm=[0, 3, 1, 2]),
              helper.make_node("Cast", ["moved"], ["x"], to=TensorProto.FLOAT)]
    after = [helper.make_node("Transpose", ["y"], ["low"], perm=[0, 2, 3, 1])]
    rng = np.random.default_rng(0)
    constants |= {"w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32) / 255,
                  "p": rng.normal(size=(2, 4, 1, 1)).astype(np.float32)}
    model = helper.make_model(helper.make_graph(
        [*before, *nodes, *after], "g", [helper.make_tensor_value_info("frame", TensorProto.UINT8, (1, 32, 48, 3))],
        [helper.make_tensor_value_info("low", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return FloatGraph(onnx.shape_inference.infer_shapes(model))


@pytest.mark.parametrize("nodes", [
    [("Conv", ["x", "w"], {"pads": [0, 0, 1, 1], "strides": [2, 2]})],
    [("Conv", ["x", "w"], {"pads": [2, 2, 2, 2], "dilations": [2, 2]}), ("Conv", ["0", "p"], {"strides": [2, 2]})],
    [("Conv", ["x", "w"], {}), ("Clip", ["0", "zero", "one"], {}), ("Concat", ["0", "1"], {"axis": 1})],
    [("Conv", ["x", "w"], {"pads": [1, 1, 1, 1]}), ("MaxPool", ["0"], {"kernel_shape": [3, 3], "strides": [2, 2],
                                                                      "pads": [1, 1, 1, 1]})],
    [("Conv", ["x", "w"], {"pads": [1, 1, 1, 1]}), ("Resize", ["0", "", "twice"], {"mode": "linear"})],
    [("Conv", ["x", "w"], {"pads": [1, 1, 1, 1]}),
     ("Resize", ["0", "", "twice"], {"mode": "linear", "coordinate_transformation_mode": "align_corners"})],
    [("Conv", ["x", "w"], {}), ("HardSigmoid", ["0"], {"alpha": 0.3})],
    [("Conv", ["x", "w"], {}), ("GlobalAveragePool", ["0"], {}), ("Sigmoid", ["1"], {}), ("Mul", ["2", "0"], {}),
     ("Sub", ["3", "one"], {}), ("Add", ["4", "0"], {}), ("Relu", ["5"], {}), ("HardSwish", ["6"], {})],
], ids=lambda nodes: "-".join(kind for kind, *_ in nodes))
def test_every_operator_does_what_onnx_runtime_does(nodes: list[tuple[str, list[str], dict[str, object]]]) -> None:
    made = [helper.make_node(kind, inputs, ["y" if i == len(nodes) - 1 else str(i)], **attributes)
            for i, (kind, inputs, attributes) in enumerate(nodes)]
    graph = drawn(*made, zero=np.float32(0), one=np.float32(1), twice=np.array([1, 1, 2, 2], np.float32))
    expected = Simulated(graph.model).run(FRAME[None])
    assert logits(RoundedGraph(graph, "NHWC", {}, ())) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("node", "message"), [
    (helper.make_node("Tanh", ["0"], ["y"]), "the graph has Tanh, which cannot be trained here"),
    (helper.make_node("Resize", ["0", "", "twice"], ["y"], mode="nearest"), "a resize is nearest, half_pixel"),
    (helper.make_node("Conv", ["0", "p"], ["y"], auto_pad="SAME_UPPER"), "a convolution pads by SAME_UPPER"),
])
def test_what_cannot_be_trained_is_told(node: onnx.NodeProto, message: str) -> None:
    graph = drawn(helper.make_node("Conv", ["x", "w"], ["0"]), node, twice=np.array([1, 1, 2, 2], np.float32))
    with pytest.raises(UserError, match=message):
        logits(RoundedGraph(graph, "NHWC", {}, ()))
