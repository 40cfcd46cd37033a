"""What is done with a plan where a GPU opens it, over a stand-in for the session, as no GPU is here."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from export.trt import verify
from export.trt.inspect import rows_of_engine, unfused
from export.trt.verify import PlanCheck, onnx_verifier
from runtime.artifact import OutputKind, open_artifact
from runtime.errors import GateFailed
from runtime.sessions.onnx import OnnxSession
from tests import tiny

LAYERS = json.dumps({"Layers": [
    {"Name": "conv", "LayerType": "CaskConvolution", "TacticName": "sm86_xmma",
     "Outputs": [{"Name": "y", "Format/Datatype": "Half NHWC"}]},
    {"Name": "q", "LayerType": "QuantizeLinear", "Outputs": [{"Name": "z", "DataType": "Int8"}]},
    {"Name": "end", "LayerType": "NoOp", "Outputs": []}, "only a name"]})


class Opened:
    """A plan on a GPU, computed by ONNX Runtime; `spoil` is done to each output."""

    closed = 0
    cuda_graph = True

    def __init__(self, path, spoil=lambda y: y):
        self.session, self.spoil = OnnxSession(path), spoil

    def run(self, x):
        return self.spoil(self.session.run(x))

    def layers(self):
        return LAYERS

    def close(self):
        Opened.closed += 1


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return open_artifact(tiny.artifact(tmp_path_factory.mktemp("onnx"), OutputKind.CLASSES))


def test_layers_of_an_opened_plan_are_read_as_tensorrt_10_and_11_write_them():
    rows = rows_of_engine(LAYERS)
    assert rows == [("conv", "CaskConvolution", "Half NHWC", "sm86_xmma"), ("q", "QuantizeLinear", "Int8", "-"),
                    ("end", "NoOp", "-", "-"), ("only a name", "-", "-", "-")]
    assert unfused(rows) == ["q"]
    assert rows_of_engine("{}") == []


def test_a_plan_that_gives_the_graphs_masks_is_executed_and_its_layers_are_on_record(source, tmp_path, monkeypatch):
    artifact, path = source
    monkeypatch.setattr(verify, "TrtSession", lambda artifact, plan: Opened(path))
    lines: list[str] = []
    before = Opened.closed
    found = PlanCheck(onnx_verifier(artifact, path, None), True, lines.append)(artifact, tmp_path / "x.plan")
    assert found.verification[-1].step == "plan vs onnx"
    assert found.verification[-1].agreement == 1
    assert (found.details["status"], found.details["cuda_graph"], found.details["unfused"]) == ("executed", True, ["q"])
    assert lines[0].startswith("plan vs onnx: 100.0000% of pixels agree")
    assert "sm86_xmma" in lines[1]
    assert lines[2] == "Q/DQ that were not fused: q"
    assert Opened.closed == before + 1


@pytest.mark.parametrize(("precision", "wrong", "passes"), [
    ("fp32", 1, False), ("fp16", 1, True), ("fp16", 16, False), ("int8", 12, True), ("int8", 40, False)])
def test_a_plan_is_held_to_the_gate_of_its_precision_and_closed_either_way(source, tmp_path, monkeypatch, precision,
                                                                          wrong, passes):
    artifact, path = source

    def spoil(y):
        flat = np.array(y)
        flat.reshape(-1)[:wrong] = (flat.reshape(-1)[:wrong] + 1) % 11
        return flat

    monkeypatch.setattr(verify, "TrtSession", lambda artifact, plan: Opened(path, spoil))
    check = PlanCheck(onnx_verifier(artifact, path, None), False, lambda line: None)
    before = Opened.closed
    artifact = dataclasses.replace(artifact, precision=precision)
    if passes:
        assert check(artifact, tmp_path / "x.plan").verification[-1].agreement == pytest.approx(1 - wrong / (32 * 48))
    else:
        with pytest.raises(GateFailed, match="plan vs onnx"):
            check(artifact, tmp_path / "x.plan")
    assert Opened.closed == before + 1
