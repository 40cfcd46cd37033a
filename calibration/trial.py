"""Plans tried: what a choice of float layers loses, and what it takes, before the INT8 file is written."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import closing
from pathlib import Path

import onnx

from calibration.judge.budget import Trial
from calibration.judge.costs import price, whole_ms
from calibration.judge.engines import Simulated
from calibration.judge.measure import Judge, Score
from calibration.quantise.quantize import int8_from_float
from calibration.request import CalibrationRequest, Prepared
from runtime.sessions import open_session
from runtime.sessions.onnx import OnnxSession

SEARCH_FRAMES = 25
"""That judge while layers are searched; the result is judged on all."""


def trial_for(wanted: CalibrationRequest, ready: Prepared) -> Trial:
    """Plans are tried in the engine that the file is made for; in simulation, at MACs for a price, where it is made for
    all."""
    judge = Judge(wanted.artifact, OnnxSession(wanted.engine), ready.held_out.part(SEARCH_FRAMES))

    def graph(kept: frozenset[str]) -> onnx.ModelProto:
        return int8_from_float(ready.graph, ready.thresholds,
                               dataclasses.replace(ready.plan, nodes=ready.plan.nodes - kept))

    def simulated(kept: frozenset[str]) -> float:
        return judge.drop(judge.score(Simulated(graph(kept))))

    def executed(kept: frozenset[str]) -> float:
        return judge.drop(scored(wanted, judge, graph(kept)))

    if not wanted.made_for:
        macs = {layer.node: float(layer.macs) for layer in ready.graph.layers}
        return Trial(simulated, macs, None, judge.unit, len(judge.held_out.names))
    frame = ready.chosen.read(0)
    return Trial(executed, price(ready.graph, graph(frozenset()), wanted.made_for, frame),
                 lambda kept: whole_ms(wanted.artifact, graph(kept), wanted.made_for, frame),
                 judge.unit, len(judge.held_out.names))


def scored(wanted: CalibrationRequest, judge: Judge, model: onnx.ModelProto, label: str = "") -> Score:
    """How a graph does in the engine that it is judged in."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save_model(model, path)
        with closing(open_session(wanted.artifact, path, engine=wanted.judged_in)) as session:
            return judge.score(session, label)
