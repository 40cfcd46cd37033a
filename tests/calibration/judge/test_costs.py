"""What a layer costs is led back from an engine's own names, whatever they were made of."""

from io import StringIO

import pytest

from calibration.data.frames import drawn_frame
from calibration.judge import costs
from calibration.judge.costs import kernels, layer_ms, price
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import Plan, all_nodes, int8_from_float
from calibration.quantise.thresholds import Range
from calibration.source import load_onnx
from runtime.artifact import open_artifact
from runtime.errors import UserError
from runtime.forms import PORTABLE
from runtime.sessions import engines
from tests import tiny

FRAME = drawn_frame((32, 48), 0)[None]


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return FloatGraph(load_onnx(tiny.artifact(tmp_path_factory.mktemp("artifact"))))


def node(graph, name):
    return next(layer.node for layer in graph.layers if layer.name == name)


def test_a_kernel_belongs_to_the_layer_whose_sums_it_starts_from(graph):
    stem, down = node(graph, "stem.0"), node(graph, "down.0")
    swish, relu = node(graph, "hard-swish after stem.0"), graph.nodes[node(graph, "ReLU after down.0")].output[0]
    found = layer_ms(graph, [([f"{stem}_nchwc"], 1.0), ([swish], 0.5), ([f"{relu}_q"], 0.25), (["reorder"], 9.0),
                             (["x", f"{down}/WithoutBiases", relu], 2.0)])
    assert found == {stem: 1.5, down: 2.25}


@pytest.mark.parametrize("engine", [name for name, entry in engines().items() if entry.form != PORTABLE])
def test_every_layer_has_its_time_in_float_and_in_int8(graph, engine):
    if hindrance := engines()[engine].hindrance():
        pytest.skip(hindrance)
    form = engines()[engine].form
    model = int8_from_float(graph, dict.fromkeys(graph.float_tensors, Range(-4, 4)),
                            Plan(all_nodes(graph, form), form=form))
    layers = {layer.node for layer in graph.layers if layer.macs}
    for measured in (graph.model, model):
        assert layer_ms(graph, kernels(measured, engine, FRAME)).keys() >= layers
    assert price(graph, model, engine, FRAME).keys() == layers


def test_two_graphs_are_timed_in_turns_and_a_slower_one_says_so(monkeypatch, tmp_path):
    path = tiny.artifact(tmp_path)

    class Opened(StringIO):
        def run(self, frame):
            return self.getvalue()

    names, took = iter(("one", "other")), {"one": 3.0, "other": 6.0}
    monkeypatch.setattr(costs, "open_session", lambda *_, **__: Opened(next(names)))
    monkeypatch.setattr(costs, "turn", lambda run, count: [took[run()]] * count)
    ratio, low, high = costs.ratio_in_turns(open_artifact(path)[0], load_onnx(path), load_onnx(path), "onnx", FRAME)
    assert ratio == low == high == 2


@pytest.mark.parametrize("engine", ["ncnn", "litert"])
def test_an_engine_that_has_no_profiler_or_reads_no_such_graphs_is_refused(graph, engine):
    with pytest.raises(UserError, match="does not report the time of each kernel"):
        kernels(graph.model, engine, FRAME)
