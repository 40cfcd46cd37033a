"""The same network in each engine's best form: rounded where the form says, computed as simulated, never misread."""

import dataclasses
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from calibration.data.frames import drawn_frame
from calibration.judge.engines import Probe, Simulated
from calibration.judge.lint import lint
from calibration.quantise.channels import Reach, reaches
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import Plan, _grids, all_nodes, int8_from_float, quantised_tensors
from calibration.quantise.thresholds import Range
from calibration.source import load_onnx
from export.trt.graph import check_for_tensorrt
from runtime.artifact import open_artifact
from runtime.errors import UserError
from runtime.forms import PORTABLE
from runtime.sessions import engine_for, engines, open_session
from runtime.sessions.onnx import OnnxSession, profile
from tests import tiny
from tests.calibration.quantise.drawn import network, node

FRAME = drawn_frame((32, 48), 0)[None]
OWN = [name for name, engine in engines().items() if engine.form != PORTABLE]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny.artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture(scope="module")
def graph(path):
    return FloatGraph(load_onnx(path))


@pytest.fixture(scope="module")
def ranges(graph):
    return ranges_of(graph)


def ranges_of(graph):
    values = Probe(graph.model, graph.float_tensors).run_all(FRAME)
    return {name: Range(min(float(x.min()), 0), max(float(x.max()), 0))
            for name, x in zip(graph.float_tensors, values)}


def written(graph, ranges, engine):
    form = engines()[engine].form
    return int8_from_float(graph, ranges, Plan(all_nodes(graph, form), form=form))


def zeros(model):
    """Zero-points of the activations, by tensor."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    return {node.input[0]: stored[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("engine", OWN)
def test_activations_are_uint8_with_the_zero_point_at_zero_where_nothing_is_negative(graph, ranges, engine):
    found = {name: zero for name, zero in zeros(written(graph, ranges, engine)).items() if name in ranges}
    for name, zero in found.items():
        assert zero.data_type == TensorProto.UINT8
        assert (numpy_helper.to_array(zero) == 0) == (ranges[name].low == 0)
    assert any(ranges[name].low == 0 for name in found)
    assert any(ranges[name].low < 0 for name in found)


@pytest.mark.parametrize("zero_points", ["always", "never"])
def test_without_zero_points_what_has_both_signs_is_symmetric_and_each_tensor_has_one_type(graph, ranges, zero_points):
    form = dataclasses.replace(engines()["openvino"].form, zero_points=zero_points)
    depthwise = {name: Reach(np.float32([0, -1, 0]), np.float32([2, 1, 0])) for name in ranges}
    plan = Plan(all_nodes(graph, form), form=form, channels=depthwise)
    for name, zero in zeros(int8_from_float(graph, ranges, plan)).items():
        symmetric = zero_points == "never" and ranges[name].low < 0
        assert zero.data_type == (TensorProto.INT8 if symmetric else TensorProto.UINT8)
        assert not (symmetric and numpy_helper.to_array(zero).any())
    mixed = _grids(depthwise[next(iter(ranges))], form)
    assert {grid.unsigned for grid in mixed} == {zero_points == "always"}
    assert [grid.zero for grid in mixed] == ([0, 128, 0] if zero_points == "always" else [0, 0, 0])


def test_a_float_operator_reads_what_a_float_operator_writes(graph):
    product = next(layer.node for layer in graph.layers if layer.op == "Mul")
    pool = next(layer.node for layer in graph.layers if layer.op == "GlobalAveragePool")
    form = engines()[OWN[-1]].form
    plan = Plan(frozenset({next(layer.node for layer in graph.layers if layer.role == "classifier")}), form=form)
    nodes = {node.name: node for node in
             int8_from_float(graph, dict.fromkeys(graph.float_tensors, Range(-1, 1)), plan).graph.node}
    assert nodes[product].input[0] == graph.nodes[product].input[0]
    assert nodes[pool].input[0] == graph.nodes[pool].input[0]


def test_onnxruntime_computes_everything_between_its_first_convolution_and_the_logits_on_bytes(graph, ranges, tmp_path):
    model = written(graph, ranges, "onnx")
    onnx.save(model, tmp_path / "tiny.onnx")
    kinds = Counter(event["args"]["op_name"] for event in profile(tmp_path / "tiny.onnx", FRAME, threads=1, runs=1))
    convolutions = sum(layer.op == "Conv" for layer in graph.layers)
    assert (kinds["Conv"], kinds["QLinearConv"]) == (1, convolutions - 1)
    assert kinds["QLinearLeakyRelu"] == kinds["QLinearMul"] == kinds["QLinearGlobalAveragePool"] == 1
    assert (kinds["QuantizeLinear"], kinds["DequantizeLinear"]) == (1, 1)


def drawn(*shape):
    return np.random.default_rng(0).normal(size=shape)


TO_RELU = node("Relu", "d", "y")
DEEP = network(node("Conv", "x v", "h"), node("Conv", "h w", "d", group=6), TO_RELU,
               v=drawn(6, 6, 1, 1), w=drawn(6, 1, 3, 3))
KERNELS = {
    "whole vectors of a depthwise convolution": (True, 3, DEEP),
    "a vector and a half": (False, 4, DEEP),
    "groups of two channels": (False, 3, network(node("Conv", "x w", "d", group=3), TO_RELU, w=drawn(6, 2, 1, 1))),
    "the same, where no vector is asked for": (True, 1, network(
        node("Conv", "x w", "d", group=3), TO_RELU, w=drawn(6, 2, 1, 1))),
    "a product of two": (True, 1, network(
        node("Conv", "x w", "h"), node("Mul", "h x", "d"), TO_RELU, w=drawn(6, 6, 1, 1))),
    "a product with a constant": (False, 1, network(node("Mul", "x two", "d"), TO_RELU, two=np.float32(2))),
}


@pytest.mark.parametrize("what", KERNELS)
def test_what_an_engine_has_no_integers_for_or_slow_ones_stays_in_float(what):
    fast, vector, graph = KERNELS[what]
    assert ("d" in all_nodes(graph, dataclasses.replace(PORTABLE, vector=vector))) == fast


FIRST = {
    "a depthwise one behind it": ("d", network(node("HardSwish", "ya", "h"), node("Conv", "h w", "d", group=6), TO_RELU,
                                               w=drawn(6, 1, 3, 3))),
    "a depthwise one further on": ("", DEEP),
    "a depthwise one of a sum": ("", network(
        node("Add", "ya x", "h"), node("Conv", "h w", "d", group=6), TO_RELU, w=drawn(6, 1, 3, 3))),
    "another one behind it": ("", network(node("Conv", "x w", "d"), TO_RELU, w=drawn(6, 6, 1, 1))),
}


@pytest.mark.parametrize("what", FIRST)
def test_the_first_convolution_takes_a_depthwise_one_behind_it_into_float(what):
    behind, graph = FIRST[what]
    with_them, without = (all_nodes(graph, dataclasses.replace(PORTABLE, first=first)) for first in (True, False))
    assert with_them - without == {"a", behind} - {""}


@pytest.mark.parametrize("engine", OWN)
def test_a_relu_reads_the_sums_and_no_rounded_ones(graph, ranges, engine):
    model = written(graph, ranges, engine)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    assert not relu.input[0].endswith("_dq")
    if engines()[engine].form.outputs:
        assert f"{relu.output[0]}_q" in {name for node in model.graph.node for name in node.output}


def test_a_form_without_outputs_rounds_only_what_an_integer_operator_reads(graph):
    form = dataclasses.replace(PORTABLE, outputs=False)
    plan = Plan(all_nodes(graph, form), form=form)
    read = {name for node in plan.nodes for name in graph.activations(graph.nodes[node])}
    assert quantised_tensors(graph, plan) == read - graph.outputs
    assert read < quantised_tensors(graph, Plan(plan.nodes))


@pytest.mark.parametrize("engine", OWN)
def test_the_engine_computes_its_form_as_it_is_simulated(path, graph, ranges, engine, tmp_path):
    if hindrance := engines()[engine].hindrance():
        pytest.skip(hindrance)
    model = written(graph, ranges, engine)
    onnx.save(model, tmp_path / path.name)
    session = open_session(open_artifact(path)[0], tmp_path / path.name, engine=engine)
    found, simulated, exact = session.run(FRAME), Simulated(model).run(FRAME), Simulated(graph.model).run(FRAME)
    assert np.abs(found - simulated).mean() < 0.01 * np.abs(exact).mean()
    assert np.abs(simulated - exact).mean() < 0.1 * np.abs(exact).mean()


def test_onnxruntime_runs_what_a_matrix_product_hands_to_a_depthwise_convolution(frames):
    graph, form = network(node("MatMul", "x m", "p"), node("Conv", "p w", "y", group=6), m=drawn(48, 12),
                          w=drawn(6, 1, 3, 3)), engines()["openvino"].form
    thresholds = ranges_of(graph)
    plan = Plan(all_nodes(graph, form), form=form, channels=reaches(graph, thresholds, frames))
    model = int8_from_float(graph, thresholds, plan)
    found, simulated = OnnxSession(model.SerializeToString()).run(FRAME), Simulated(model).run(FRAME)
    assert np.abs(found - simulated).mean() < 0.01 * np.abs(simulated).mean()


def test_what_would_read_unsigned_integers_as_signed_refuses_them(path, graph, ranges):
    artifact = dataclasses.replace(open_artifact(path)[0], precision="int8", integers="unsigned")
    for name, entry in engines().items():
        mine = dataclasses.replace(artifact, target=entry.reads[0])
        if "unsigned" in entry.integers:
            assert engine_for(mine, name) == name
        else:
            with pytest.raises(UserError, match=r"has unsigned integers.*Try: python -m calibration tiny"):
                engine_for(mine, name)
    assert "unsigned" not in {form for name in ("trt", "coreml") for form in engines()[name].integers}
    with pytest.raises(UserError, match="uint8 integers: TensorRT reads uint8 as int8"):
        check_for_tensorrt(written(graph, ranges, OWN[0]))


def test_lint_of_the_portable_form_refuses_the_others(graph, ranges):
    model = written(graph, ranges, OWN[0])
    assert any("with a mere warning" in str(finding) for finding in lint(model))
    assert lint(model, "unsigned") == []
