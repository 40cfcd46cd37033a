"""Cross-layer equalisation: spread the channels between two layers over one range, without changing what they compute.

relu(s·x) = s·relu(x) for s > 0, so a channel between two convolutions with a ReLU may be divided by s if the second
convolution's weights for it are multiplied by s (Nagel et al., "Data-Free Quantization Through Weight Equalization and
Bias Correction", ICCV 2019, §4.1). There, s balances the weights of both layers. Here the first layer's weights have a
scale for every output channel, so that their range is free; what has one scale for all channels is the activation in
between. So s balances the activation's range against the second layer's weights, as SmoothQuant does (Xiao et al.,
ICML 2023, equation 4); a depthwise second layer has a scale for every channel as well, and takes all of it.
Hard-swish is not homogeneous: its layers are left as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.data.coverage import Chosen
from calibration.judge.engines import Probe
from calibration.quantise.graph import FloatGraph
from runtime.cli import progress

LIMIT = 16.0
"""Largest factor, and the inverse of the smallest: a channel that hardly ever fires must not rule its neighbours."""

FRAMES = 8


@dataclass(frozen=True)
class ConvPair:
    """Two convolutions with nothing but a ReLU in between, by node name, and the activation between them."""

    first: str
    second: str
    between: str


def pairs(graph: FloatGraph) -> list[ConvPair]:
    """All pairs of a graph, in order."""
    found = []
    for node in graph.graph.node:
        if node.op_type != "Relu" or node.output[0] in graph.outputs:
            continue
        before, after = graph.producer.get(node.input[0]), graph.consumers[node.output[0]]
        if (before is not None and before.op_type == "Conv" and len(graph.consumers[node.input[0]]) == 1
                and len(after) == 1 and after[0].op_type == "Conv" and _fits(graph, after[0].name)
                and all(graph.is_constant(c.input[1]) for c in (before, after[0]))):
            found.append(ConvPair(before.name, after[0].name, node.output[0]))
    return found


def _fits(graph: FloatGraph, node: str) -> bool:
    groups = next((a.i for a in graph.nodes[node].attribute if a.name == "group"), 1)
    weight = graph.array(graph.nodes[node].input[1])
    return groups == 1 or (weight.shape[1] == 1 and weight.shape[0] == groups)


def equalised(graph: FloatGraph, frames: Chosen) -> FloatGraph:
    """A copy that computes the same, with the channels of every pair equalised.

    Args:
        graph: the float graph; left as it is.
        frames: of which the first few show how large each channel gets.
    """
    found = pairs(graph)
    result = FloatGraph(graph.model)
    if not found:
        return result
    probe = Probe(graph.model, [pair.between for pair in found])
    largest = [np.zeros(graph.shapes[pair.between][1], np.float32) for pair in found]
    indices = list(range(min(FRAMES, len(frames.paths))))
    for index in progress(indices, len(indices), "channels"):
        for top, value in zip(largest, probe.run_all(frames.read(index))):
            np.maximum(top, np.abs(value).max(axis=(0, 2, 3)), out=top)
    for pair, top in zip(found, largest):
        _divide(result, pair, top)
    return result


def _divide(graph: FloatGraph, pair: ConvPair, activation: npt.NDArray[np.float32]) -> None:
    first, second = graph.nodes[pair.first], graph.nodes[pair.second]
    weight = graph.array(second.input[1])
    depthwise = weight.shape[1] == 1
    reach = np.abs(weight).max(axis=(1, 2, 3) if depthwise else (0, 2, 3))
    factor = factors(activation, None if depthwise else reach)
    graph.replace(first.input[1], graph.array(first.input[1]) / factor[:, None, None, None])
    if len(first.input) > 2:
        graph.replace(first.input[2], graph.array(first.input[2]) / factor)
    graph.replace(second.input[1], weight * (factor[:, None, None, None] if depthwise else factor[None, :, None, None]))


def factors(activation: npt.NDArray[np.float32], reach: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    """What to divide each channel by; 1 for channels that are always zero.

    Args:
        activation: [C] largest activation.
        reach: [C] largest weight that the next layer has for the channel; None where it is free.
    """
    alive = (activation > 0) & (True if reach is None else reach > 0)
    raw = np.ones_like(activation)
    raw[alive] = activation[alive] if reach is None else np.sqrt(activation[alive] / reach[alive])
    middle = np.exp(np.log(raw[alive]).mean()) if alive.any() else 1
    return np.asarray(np.where(alive, np.clip(raw / middle, 1 / LIMIT, LIMIT), 1), dtype=np.float32)
