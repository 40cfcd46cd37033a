"""Bias correction: take back the shift of each channel's mean that a layer's own rounding causes.

Nagel et al., ICCV 2019, §4.2 (the empirical form). The shift is counted per layer, from its rounded weights and inputs
against its own float ones: comparing whole networks instead, and correcting all layers at once, corrects an early
layer's error again in every later one, and diverges (measured: agreement 0.29 after three passes).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from calibration.data.coverage import Chosen
from calibration.judge.engines import Probe
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import Plan, int8_from_float, stored_weights
from calibration.quantise.rounding import patches
from calibration.quantise.thresholds import Range
from runtime.cli import progress

FRAMES = 16


def corrected(graph: FloatGraph, thresholds: Mapping[str, Range], plan: Plan, frames: Chosen) -> Plan:
    """The plan with what its roundings shift each convolution by, which is taken from the bias of those in INT8.

    Args:
        graph: the float graph; left as it is.
        thresholds: of its activations.
        plan: what becomes INT8.
        frames: of which the first few are run.
    """
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv" and node.name in plan.nodes]
    quantised = int8_from_float(graph, thresholds, plan)
    reads = {node.name: node.input[0] for node in quantised.graph.node}
    before, after = [node.input[0] for node in convolutions], [reads[node.name] for node in convolutions]
    both = sorted({*before, *after})
    probe = Probe(quantised, both)
    shifts = [np.zeros(graph.shapes[node.output[0]][1], np.float32) for node in convolutions]
    count = min(FRAMES, len(frames.paths))
    for index in progress(range(count), count, "bias correction"):
        seen = dict(zip(both, probe.run_all(frames.read(index))))
        for node, shift, x, rounded in zip(convolutions, shifts, before, after):
            weight = graph.array(node.input[1])
            means = [patches(seen[name], node, weight.shape, np.random.default_rng(index)).mean(1)
                     for name in (x, rounded)]
            shift += (_times(stored_weights(graph, node, plan), means[1]) - _times(weight, means[0])) / count
    return dataclasses.replace(plan, shifts={node.name: shift for node, shift in zip(convolutions, shifts)})


def _times(weight: npt.NDArray[np.float32], inputs: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Weights [O, ...] times the mean inputs of each group [groups, K] → [O]."""
    grouped = weight.reshape(len(inputs), -1, inputs.shape[1])
    return np.asarray((grouped @ inputs[:, :, None]).ravel(), np.float32)
