"""A rounding search: choose for each weight the integer above or below, so that the layer's *output* changes least.

Rounding every weight to the nearest is not what changes the output least (Nagel et al., "Up or Down? Adaptive Rounding
for Post-Training Quantization", ICML 2020). AdaRound finds the roundings by gradient descent; here they are found in
closed form, one weight after the other, each one's error being spread over those not rounded yet by the inverse of
the inputs' second moments (Frantar et al., "GPTQ", ICLR 2023, equation 2), which needs numpy only and takes seconds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx

from calibration.data.coverage import Chosen
from calibration.judge.engines import Probe
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import LARGEST, Plan, int8_from_float, weight_scales
from calibration.quantise.thresholds import Range
from runtime.cli import progress

FRAMES = 16
SAMPLES = 256
"""Positions of each frame at which a layer's inputs are looked at."""

INPUTS = 2304
"""Weights for each output beyond which a layer's are rounded to the nearest: the search takes the square of that in
memory, and more in time."""

BLOCK = 128
"""Weights after which the errors are spread over those of later blocks, in one product of matrices (GPTQ, §3.3)."""

DAMPING = 0.01
"""Share of the mean second moment that is added to the diagonal, against inputs that hardly vary (GPTQ, §3.3)."""

Float = npt.NDArray[np.float64]


def rounded(graph: FloatGraph, thresholds: Mapping[str, Range], plan: Plan, frames: Chosen) -> Plan:
    """The plan with integers chosen for the convolutions that are `searched`.

    Args:
        graph: the float graph; left as it is.
        thresholds: of its activations; the search sees rounded activations, as the layers will.
        plan: what becomes INT8.
        frames: of which the first few are run.
    """
    convolutions = searched(graph, plan)
    if not convolutions:
        return plan
    quantised = int8_from_float(graph, thresholds, plan)
    reads = {node.name: node.input[0] for node in quantised.graph.node}
    probe = Probe(quantised, [reads[node.name] for node in convolutions])
    moments: list[Float] = []
    count = min(FRAMES, len(frames.paths))
    rng = np.random.default_rng(0)
    for index in progress(range(count), count, "second moments"):
        new = [_moments(patches(value, node, graph.array(node.input[1]).shape, rng))
               for node, value in zip(convolutions, probe.run_all(frames.read(index)))]
        moments = [a + b for a, b in zip(moments, new)] if moments else new
    weights = {node.name: _search(node, graph.array(node.input[1]), moment)
               for node, moment in progress(list(zip(convolutions, moments)), len(convolutions), "rounding search")}
    return dataclasses.replace(plan, weights=weights)


def searched(graph: FloatGraph, plan: Plan) -> list[onnx.NodeProto]:
    """The plan's convolutions of no more than `INPUTS` weights for each output."""
    return [node for node in graph.graph.node if node.op_type == "Conv" and node.name in plan.nodes
            and math.prod(graph.array(node.input[1]).shape[1:]) <= INPUTS]


def patches(value: npt.NDArray[np.float32], node: onnx.NodeProto, shape: tuple[int, ...],
            rng: np.random.Generator) -> Float:
    """What a convolution multiplies its weights with, at random positions.

    Args:
        value: its input, float32 [1, C, H, W].
        node: the convolution.
        shape: of its weights.
        rng: chooses the positions.

    Returns:
        float64 [groups, positions, C / groups · kh · kw].
    """
    attributes = {a.name: list(a.ints) or a.i for a in node.attribute}
    pads, strides, dilations = (attributes.get(key) or default for key, default in (
        ("pads", [0, 0, 0, 0]), ("strides", [1, 1]), ("dilations", [1, 1])))
    assert isinstance(pads, list) and isinstance(strides, list)  # noqa: PT018
    assert isinstance(dilations, list)
    padded = np.pad(value[0], ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    reach = [(k - 1) * d + 1 for k, d in zip(shape[2:], dilations)]
    rows, columns = ((n - r) // s + 1 for n, r, s in zip(padded.shape[1:], reach, strides))
    picked = rng.choice(rows * columns, min(SAMPLES, rows * columns), replace=False)
    y, x = picked // columns * strides[0], picked % columns * strides[1]
    down, across = (np.arange(k) * d for k, d in zip(shape[2:], dilations))
    found = padded[:, (y[:, None] + down)[:, :, None], (x[:, None] + across)[:, None, :]]  # [C, positions, kh, kw]
    groups = padded.shape[0] // shape[1]
    split = found.reshape(groups, shape[1], len(picked), -1).transpose(0, 2, 1, 3)
    return split.reshape(groups, len(picked), -1).astype(np.float64)


def _moments(inputs: Float) -> Float:
    return np.asarray(inputs.transpose(0, 2, 1) @ inputs)


def _search(node: onnx.NodeProto, weight: npt.NDArray[np.float32], moment: Float) -> npt.NDArray[np.int8]:
    """All output channels of all groups."""
    scale = weight_scales(node, weight)
    flat = weight.reshape(len(moment), -1, moment.shape[-1]).astype(np.float64)
    scales = scale.reshape(len(moment), -1).astype(np.float64)
    found = [search(w, s, h) for w, s, h in zip(flat, scales, moment)]
    return np.stack(found).reshape(weight.shape).astype(np.int8)


def search(weight: Float, scale: Float, moment: Float) -> Float:
    """The integers of one group's weights.

    Args:
        weight: [outputs, inputs].
        scale: [outputs].
        moment: [inputs, inputs] second moments of the inputs.

    Returns:
        Whole numbers, float64 [outputs, inputs]: above or below each weight, and nothing further, so that what
        `weight_scales` allows for holds.
    """
    damped = moment + np.eye(len(moment)) * max(DAMPING * float(np.diag(moment).mean()), 1e-9)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = weight / scale[:, None]
    below, above = np.floor(left).clip(min=-LARGEST), np.ceil(left).clip(max=LARGEST)
    result = np.empty_like(left)
    for start in range(0, left.shape[1], BLOCK):
        block = slice(start, start + BLOCK)
        errors = np.empty_like(left[:, block])
        for i in range(*block.indices(left.shape[1])):
            result[:, i] = np.clip(np.rint(left[:, i]), below[:, i], above[:, i])
            errors[:, i - start] = (left[:, i] - result[:, i]) / upper[i, i]
            left[:, i + 1:block.stop] -= errors[:, i - start, None] * upper[i, i + 1:block.stop]
        left[:, block.stop:] -= errors @ upper[block, block.stop:]
    return result
