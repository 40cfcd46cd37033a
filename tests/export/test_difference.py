"""Networks and steps broken on purpose: the gate that fails names where."""

from __future__ import annotations

import dataclasses
import pkgutil

import numpy as np
import pytest
import torch

from export.build import build
from export.difference import TensorSample, Trace, parting
from export.target import Job
from export.target import target as known
from export.wrapper import Deployable
from runtime.errors import GateFailed
from tests import tiny

FRAME = np.zeros((1, 4, 4, 3), np.uint8)


def trace(title, **values):
    return Trace(title, lambda frame: ((name, TensorSample.of(np.asarray(value, np.float32)))
                                       for name, value in values.items()))


def test_the_first_tensor_beyond_the_limit_is_named_with_the_two_steps_around_it():
    right = trace("torch", a=[1, 2], b=[3, 4], c=[5, 6])
    wrong = trace("simplified", a=[1, 2.001], b=[3, 5], c=[9, 9])
    assert parting([right, right, wrong], FRAME, 0.01) == (
        "the first tensor that differs is 'b', by 20.0% of its size: between torch and simplified")
    assert "'a'" in parting([right, wrong], FRAME, 1e-4)


def test_what_has_no_counterpart_of_the_same_shape_is_not_compared():
    assert parting([trace("torch", a=[1, 2], b=[1]), trace("onnx", a=[[9, 9]], z=[7])], FRAME, 0.01).startswith(
        "every tensor that can be compared agrees in torch and onnx")
    assert parting([trace("torch", a=[1])], FRAME, 0.01) == ""


def test_what_is_not_finite_differs_whatever_the_limit():
    assert "'a', where it is not finite" in parting([trace("torch", a=[1, 2]), trace("fp16", a=[1, np.inf])], FRAME, 9)


def test_a_step_that_breaks_one_convolution_is_named_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("export.onnx.simplify.simplified", lambda model: tiny.flipped(model, "down.0.weight"))
    with pytest.raises(GateFailed, match=r"first tensor that differs is 'conv2d_1', .* between onnx and simplified"):
        build("onnx", Job(tiny.request(), tmp_path))


def test_a_wrapper_that_normalises_wrongly_is_told_from_the_tracing(tmp_path, monkeypatch):
    right = Deployable.logits
    monkeypatch.setattr(Deployable, "logits", lambda self, x: right(self, x.flip(1)))
    with pytest.raises(GateFailed, match=r"'network.stem.0', .* between the network in torch and the wrapper"):
        build("onnx", Job(tiny.request(), tmp_path))


class OtherWhenTraced(tiny.TinyNetwork):
    """Leaves out an activation where it is traced, as code does that asks for tracing to please an exporter."""

    def forward(self, x):
        x = self.stem(x)
        x = self.down[0](x) if torch.compiler.is_compiling() else self.down(x)
        return self.classifier(x * self.gate(x))


@pytest.fixture
def disguised():
    torch.manual_seed(0)
    network = OtherWhenTraced().eval()
    network.load_state_dict(tiny.network().state_dict())
    return dataclasses.replace(tiny.request(), network=network)


@pytest.mark.parametrize("target", ["onnx", "coreml", pytest.param("litert", marks=pytest.mark.slow)])
def test_a_network_that_is_another_when_it_is_traced_is_found_in_every_target(target, disguised, tmp_path):
    if why := known(target).hindrance():
        pytest.skip(why)
    with pytest.raises(GateFailed, match=r"'network.gate.0', .* between the wrapper .* and torch.export"):
        build(target, Job(disguised, tmp_path))


@pytest.mark.parametrize(("target", "step", "named"), [
    ("coreml", "export.coreml.exporter.model_from_torch", "'conv2d_1', .* between torch.export and fp32"),
    ("litert", "export.litert.exporter.tflite_from_torch", "'network.down.1', .* between torch.export and litert")])
def test_a_conversion_that_breaks_one_convolution_is_named_with_it(target, step, named, tmp_path, monkeypatch):
    if why := known(target).hindrance():
        pytest.skip(why)
    right = pkgutil.resolve_name(step)

    def broken(wanted, *options):
        network = tiny.network()
        network.down[0].weight.data = network.down[0].weight.data.flip(0)
        return right(dataclasses.replace(wanted, network=network), *options)

    monkeypatch.setattr(step, broken)
    with pytest.raises(GateFailed, match=named):
        build(target, Job(tiny.request(), tmp_path))
