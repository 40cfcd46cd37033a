"""Equalisation, rounding search and bias correction, on networks small enough to know the answer."""

import dataclasses

import numpy as np
import pytest

from calibration.judge.engines import Probe, Simulated
from calibration.quantise import rounding
from calibration.quantise.bias import corrected
from calibration.quantise.channels import reaches
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import Plan, all_nodes, int8_from_float
from calibration.quantise.ranges import collect
from calibration.quantise.rounding import patches, rounded, search
from calibration.quantise.thresholds import Range, choose
from calibration.source import load_onnx
from runtime.forms import PORTABLE
from runtime.sessions import engines
from tests import tiny


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return FloatGraph(load_onnx(tiny.artifact(tmp_path_factory.mktemp("artifact"))))


@pytest.fixture(scope="module")
def thresholds(graph, frames, tmp_path_factory):
    return choose("mse", collect(graph, frames, tmp_path_factory.mktemp("cache")))


def relu_network():
    """uint8 NHWC frame → 3×3 convolution → ReLU → depthwise → ReLU → 1×1 convolution, with unequal channels."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {"a": rng.normal(size=(6, 3, 3, 3)) * np.array([1, 1, 10, 0.1, 5, 1])[:, None, None, None],
               "a_bias": rng.normal(size=6), "b": rng.normal(size=(6, 1, 3, 3)), "c": rng.normal(size=(4, 6, 1, 1))}
    nodes = [helper.make_node("Transpose", ["frame"], ["t"], perm=[0, 3, 1, 2]),
             helper.make_node("Cast", ["t"], ["x"], to=TensorProto.FLOAT),
             helper.make_node("Conv", ["x", "a", "a_bias"], ["ya"], name="a", pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["ya"], ["ra"]),
             helper.make_node("Conv", ["ra", "b"], ["yb"], name="b", group=6, pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["yb"], ["rb"]),
             helper.make_node("Conv", ["rb", "c"], ["y"], name="c")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 32, 48, 3])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 32, 48])],
                              [numpy_helper.from_array(np.float32(v), k) for k, v in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return FloatGraph(model)


@pytest.fixture(scope="module")
def by_channel(frames, tmp_path_factory):
    """A network with unequal channels, its thresholds, and the plan of a form with a scale for each channel."""
    graph, form = relu_network(), engines()["openvino"].form
    found = choose("minmax", collect(graph, frames, tmp_path_factory.mktemp("cache")), zero_points=True)
    plan = Plan(all_nodes(graph, form), form=form, channels=reaches(graph, found, frames))
    return graph, found, plan


def test_each_channel_reaches_as_far_as_was_seen_and_no_further_than_its_tensor(by_channel, frames):
    graph, found, plan = by_channel
    assert set(plan.channels) == {"ra"}
    seen = np.stack([Probe(graph.model, ["ra"]).run_all(frames.read(i))[0].max(axis=(0, 2, 3)) for i in range(4)])
    assert plan.channels["ra"].high == pytest.approx(seen.max(0))
    assert not plan.channels["ra"].low.any()
    middle = float(np.median(seen.max(0)))
    cut = reaches(graph, found | {"ra": Range(0.0, middle)}, frames)["ra"]
    assert cut.high == pytest.approx(np.minimum(seen.max(0), middle))


def test_a_depthwise_convolution_reads_a_scale_for_each_channel_and_no_other_one_does(by_channel):
    graph, found, plan = by_channel
    model = int8_from_float(graph, found, plan)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    scales = {node.output[0]: shapes[node.input[1]] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    read = {node.name: scales.get(node.input[0]) for node in model.graph.node if node.op_type == "Conv"}
    assert read == {"a": (), "b": (6,), "c": ()}
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) == 3


def test_what_another_integer_operator_reads_as_well_has_one_scale(by_channel):
    import onnx
    from onnx import helper

    graph, found, plan = by_channel
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    model.graph.node.insert(6, helper.make_node("Add", ["ra", "rb"], ["sum"], name="sum"))
    model.graph.node[-1].input[0] = "sum"
    joined = FloatGraph(model)
    for nodes, scales in ((plan.nodes, (6,)), (plan.nodes | {"sum"}, ())):
        written = int8_from_float(joined, found | {"sum": found["rb"]}, dataclasses.replace(plan, nodes=nodes))
        shapes = {tensor.name: tuple(tensor.dims) for tensor in written.graph.initializer}
        source = {node.output[0]: node for node in written.graph.node}
        depthwise = next(node for node in written.graph.node if node.name == "b")
        assert shapes[source[depthwise.input[0]].input[1]] == scales


def test_unequal_channels_lose_less_by_a_scale_each(by_channel, frames):
    graph, found, plan = by_channel
    exact = Simulated(graph.model).run(frames.read(0))

    def error(channels):
        model = int8_from_float(graph, found, dataclasses.replace(plan, channels=channels))
        return float(np.abs(Simulated(model).run(frames.read(0)) - exact).mean())

    assert error(plan.channels) < 0.8 * error({})


def test_the_searches_look_at_what_a_convolution_reads_by_channel(by_channel, frames):
    graph, found, plan = by_channel
    assert set(rounded(graph, found, plan, frames).weights) == {"a", "b", "c"}
    unlike = dataclasses.replace(plan, channels={"ra": plan.channels["ra"]._replace(high=plan.channels["ra"].high / 9)})
    shifts = [corrected(graph, found, p, frames).shifts["b"] for p in (plan, unlike)]
    assert np.abs(shifts[1]).max() > 10 * np.abs(shifts[0]).max()


def test_openvino_computes_a_scale_for_each_channel_as_it_is_simulated(by_channel, frames, tmp_path):
    import onnx

    if hindrance := engines()["openvino"].hindrance():
        pytest.skip(hindrance)
    from runtime.sessions.openvino import OpenvinoSession

    graph, found, plan = by_channel
    model = int8_from_float(graph, found, plan)
    onnx.save(model, tmp_path / "by_channel.onnx")
    session = OpenvinoSession(tmp_path / "by_channel.onnx")
    simulated = Simulated(model).run(frames.read(0))
    assert np.abs(session.run(frames.read(0)) - simulated).mean() < 0.01 * np.abs(simulated).mean()


def test_patches_are_what_a_convolution_multiplies_with():
    graph = relu_network()
    x = np.random.default_rng(1).normal(size=(1, 6, 5, 7)).astype(np.float32)
    found = patches(x, graph.nodes["b"], (6, 1, 3, 3), np.random.default_rng(0))
    assert found.shape == (6, 35, 9)
    centre = np.sort(found[2, :, 4])  # the middle tap of a padded 3×3 window visits every pixel once
    assert centre == pytest.approx(np.sort(x[0, 2].ravel()))


def test_the_rounding_search_changes_the_output_less_than_rounding_to_the_nearest():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12))  # correlated inputs: errors can make up for each
    weight, scale = rng.normal(size=(8, 12)), np.full(8, 0.3)
    found = search(weight, scale, mixed.T @ mixed)
    assert (found == np.rint(found)).all()
    assert np.abs(found - weight / scale[:, None]).max() < 1

    def error(integers):
        return np.mean((mixed @ (integers * scale[:, None] - weight).T) ** 2)

    assert error(found) < 0.7 * error(np.rint(weight / scale[:, None]))


def test_layers_with_too_many_weights_for_each_output_are_left_to_the_nearest_integer(
        graph, frames, thresholds, monkeypatch):
    plan = Plan(all_nodes(graph, dataclasses.replace(PORTABLE, first=True)))
    assert len(rounded(graph, thresholds, plan, frames).weights) == 4
    monkeypatch.setattr(rounding, "INPUTS", 27)
    assert {len(weights) for weights in rounded(graph, thresholds, plan, frames).weights.values()} == {8, 16, 11}
    assert len(rounding.searched(graph, plan)) == 3
    monkeypatch.setattr(rounding, "INPUTS", 1)
    assert rounded(graph, thresholds, plan, frames) == plan


def test_with_uncorrelated_inputs_the_nearest_integers_are_the_best_and_are_found():
    weight = np.random.default_rng(0).normal(size=(4, 6))
    assert (search(weight, np.full(4, 0.1), np.eye(6)) == np.rint(weight / 0.1)).all()


def test_bias_correction_brings_the_mean_of_a_coarsely_rounded_layer_back(graph, frames, thresholds):
    node = next(layer.node for layer in graph.layers if layer.name == "stem.0")
    weight = graph.array(graph.nodes[node].input[1])
    down = np.floor(weight / (np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127)).astype(np.int8)
    plan = Plan(frozenset({node}), weights={node: down})  # always rounded down: the mean must shift
    out = graph.nodes[node].output[0]

    def shift(quantised):
        pairs = [[Probe(model, [out]).run_all(frames.read(i))[0].mean(axis=(0, 2, 3)) for i in range(4)]
                 for model in (quantised, graph.model)]
        return float(np.abs(np.mean(pairs[0], 0) - np.mean(pairs[1], 0)).mean())

    before = shift(int8_from_float(graph, thresholds, plan))
    after = shift(int8_from_float(graph, thresholds, corrected(graph, thresholds, plan, frames)))
    assert after < before / 3


def test_only_layers_in_int8_lose_their_shift_and_each_has_a_bias_of_its_own(graph, frames, thresholds):
    plan = corrected(graph, thresholds, Plan(all_nodes(graph)), frames)
    first, *others = plan.shifts
    alone = FloatGraph(graph.model)
    model = int8_from_float(graph, thresholds, dataclasses.replace(plan, nodes=frozenset({first})))
    reads = {node.name: node.input for node in model.graph.node}
    assert reads[first][2] == f"{first}_bias"
    assert all(list(reads[node]) == list(alone.nodes[node].input) for node in others)


def test_the_fast_simulation_agrees_with_the_graph_run_node_by_node(graph, frames, thresholds):
    model = int8_from_float(graph, thresholds, Plan(all_nodes(graph)))
    fast, exact = Simulated(model).run(frames.read(0)), Simulated(model, exact=True).run(frames.read(0))
    assert np.mean(fast.argmax(-1) == exact.argmax(-1)) > 0.97
    assert np.abs(fast - exact).mean() < 0.01 * np.abs(exact).mean()
