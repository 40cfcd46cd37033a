"""Channels brought to similar sizes before they share a scale, without changing what the network computes.

A quantised tensor has one scale for all of its channels, so that a channel a hundred times smaller than its neighbour
has two or three levels left. A convolution brings a channel to any size at no cost: the factor goes into its weights,
and out of those of the next (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, §4.1, for two convolutions with a ReLU in between). Operators that keep to their channels and let a positive
factor through (ReLU, sums, interpolation, concatenation, …) tie channels together: all of these have one factor, along
a whole chain of skip connections. Hard-swish lets none through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import onnx

from calibration.data.coverage import Chosen
from calibration.judge.engines import Probe, Simulated
from calibration.quantise.graph import FloatGraph, has_weights
from calibration.quantise.quantize import output_axis
from runtime.cli import progress
from runtime.errors import GateFailed
from runtime.preprocess import Frame

LIMIT = 16.0
"""Largest factor, and the inverse of the smallest: a channel that hardly ever fires must not rule its neighbours."""

FRAMES = 8
"""That show how large each channel gets."""

CLOSE = 1e-4
"""Share of the largest output by which one may differ."""

PASSING = {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu", "MaxPool", "Neg", "PRelu",
           "ReduceMean", "Relu", "Reshape", "Resize", "Flatten", "Squeeze", "Unsqueeze"}
"""f(s·x) = s·f(x) for s > 0, channel by channel, as long as the number of channels stays."""

TOGETHER = {"Add", "Max", "Min", "Sub"}
"""f(s·x, s·y) = s·f(x, y), likewise."""

Channels = npt.NDArray[np.intp]
Sizes = npt.NDArray[np.float32]
Tie = tuple[Channels, Channels]
"""Channels, one by one, and those that have the same factors."""


def equalised(graph: FloatGraph, frames: Chosen) -> FloatGraph:
    """A copy that computes the same with other weights.

    Args:
        graph: the float graph; left as it is.
        frames: of which the first few show how large each channel gets.

    Raises:
        GateFailed: the copy does not compute the same on a frame.
    """
    result, numbered = FloatGraph(graph.model), _Numbered(graph)
    label = joined(numbered.ties(), numbered.count)
    free = [name for name in numbered.names if label[numbered.channels(name)].any()]
    if not free:
        return result
    probe, largest = Probe(graph.model, free), np.zeros(numbered.count, np.float32)
    indices = range(min(FRAMES, len(frames.paths)))
    for index in progress(indices, len(indices), "channels"):
        for name, value in zip(free, probe.run_all(frames.read(index))):
            at = numbered.channels(name)
            largest[at] = np.maximum(largest[at], np.abs(value).max(axis=(0, *range(2, value.ndim))))
    factor = factors(label, largest)
    for node in graph.graph.node:
        if numbered.takes_in(node):
            _multiply(result, node, factor[numbered.channels(node.input[0])], factor[numbered.channels(node.output[0])])
    computes_the_same(graph, result, frames.read(0), "channels are equalised", "--improve rounding")
    return result


def computes_the_same(graph: FloatGraph, result: FloatGraph, frame: Frame, once: str, try_: str = "") -> None:
    """Hold a rewritten float graph against the one that it was made from.

    Args:
        graph, result: the two.
        frame: uint8 [1, H, W, 3] BGR.
        once: what was done, as a clause.
        try_: the flag that does without it.

    Raises:
        GateFailed: they compute different things.
    """
    before, after = (Simulated(each.model).run(frame).astype(np.float32) for each in (graph, result))
    differ = np.mean(np.abs(after - before) > CLOSE * np.abs(before).max())
    if differ > 0.001:
        raise GateFailed(f"once {once}, {differ:.1%} of outputs differ by over {CLOSE:.2%} of the largest, 0.1% are "
                         "allowed; nothing was written", try_=try_)


def joined(ties: Iterable[Tie], count: int) -> Channels:
    """Of each of `count` channels, the lowest number among those that share its factor; 0 stands for 1."""
    one, other = (np.concatenate(side) for side in zip(*ties))
    label = np.arange(count)
    while True:
        lowest, before = np.minimum(label[one], label[other]), label.copy()
        np.minimum.at(label, one, lowest)
        np.minimum.at(label, other, lowest)
        label = label[label]
        if np.array_equal(label, before):
            return label


def factors(label: Channels, largest: Sizes) -> Sizes:
    """What to multiply each channel by: 1 / √size, half-way between activations of one size and weights as they were.

    Args:
        label: channels with the same have one factor; 0 for those that stay as they are.
        largest: magnitude of each channel.

    Returns:
        float32, of each channel; 1 where it is always zero, too.
    """
    size = np.zeros_like(largest)
    np.maximum.at(size, label, largest)
    free = size > 0
    free[0] = False
    result = np.ones_like(size)
    result[free] = 1 / np.sqrt(size[free])
    middle = np.exp(np.log(result[free]).mean()) if free.any() else 1
    result[free] = np.clip(result[free] / middle, 1 / LIMIT, LIMIT)
    return result[label]


def rescaled(rows: Sizes, read: Sizes, written: Sizes) -> Sizes:
    """Weights [outputs, inputs of a group, ...] with the factors of what they read taken out, and of what they write
    in."""
    groups, ones = len(read) // rows.shape[1], [1] * (rows.ndim - 2)
    by_row = np.repeat(read.reshape(groups, -1), len(rows) // groups, axis=0)
    return rows * written.reshape(-1, 1, *ones) / by_row.reshape(*rows.shape[:2], *ones)


class _Numbered:
    """A graph with a number for every channel of its activations; 0 stands for what must not be scaled.

    Attributes:
        names: of the activations that have channels: float32 [N, C] and [N, C, H, W].
        count: of numbers.
    """

    def __init__(self, graph: FloatGraph) -> None:
        self._graph = graph
        self.names = [name for name in graph.float_tensors if len(graph.shapes[name]) in (2, 4)]
        ends = np.cumsum([1, *(graph.shapes[name][1] for name in self.names)])
        self._ranges = {name: (first, end) for name, first, end in zip(self.names, ends, ends[1:])}
        self.count = int(ends[-1])

    def channels(self, name: str) -> Channels:
        """The numbers of an activation's channels; none where it has no such axis."""
        return np.arange(*self._ranges.get(name, (0, 0)))

    def takes_in(self, node: onnx.NodeProto) -> bool:
        """Whether a node's weights and bias are its own, and have the channels of what it reads and writes."""
        constants = [name for name in node.input[1:] if name]
        if not has_weights(node) or not all(
                self._graph.is_constant(name) and len(self._graph.consumers[name]) == 1 for name in constants):
            return False
        ranks = {len(self._graph.shapes[name]) for name in (node.input[0], node.output[0])}
        settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        plain = settings.get("alpha", 1) == settings.get("beta", 1) == 1 and not settings.get("transA")
        fits = all(self._graph.array(name).shape == self._graph.shapes[node.output[0]][1:2] for name in constants[1:])
        return ranks == ({4} if node.op_type == "Conv" else {2}) and plain and fits and node.input[0] in self._ranges

    def ties(self) -> Iterator[Tie]:
        """Channels that have one factor."""
        for name in self._graph.outputs:
            yield from self._pinned(name)
        for node in self._graph.graph.node:
            if not self.takes_in(node):
                yield from self._passed(node)

    def _passed(self, node: onnx.NodeProto) -> Iterator[Tie]:
        read = sorted(self._graph.activations(node), key=lambda name: -int(np.prod(self._graph.shapes[name])))
        result, kind = self.channels(node.output[0]), node.op_type
        alike = bool(read) and all(len(self.channels(name)) == len(result) > 0 for name in read)
        if alike and (kind in PASSING or (kind in TOGETHER and len(read) == 2) or self._scales(node)):
            yield from ((self.channels(name), result) for name in read)
        elif alike and kind == "Mul":  # a gate stays as it is
            yield self.channels(read[0]), result
            yield from (tie for name in read[1:] for tie in self._pinned(name))
        elif kind == "Concat" and sum(len(self.channels(name)) for name in node.input) == len(result):
            yield np.concatenate([self.channels(name) for name in node.input]), result
        else:
            yield from (tie for name in (*read, *node.output) for tie in self._pinned(name))

    def _scales(self, node: onnx.NodeProto) -> bool:
        """Whether a node without weights of its own is linear in what it reads: what pads with zeros, divides by a
        constant, or pools by a matrix over rows or columns."""
        if node.op_type == "Pad":
            return not (len(node.input) > 2 and node.input[2] and np.any(self._graph.array(node.input[2])))
        if node.op_type == "Div":
            return self._graph.is_constant(node.input[1])
        return node.op_type == "MatMul" and len(self._graph.shapes[node.output[0]]) == 4 and any(
            self._graph.is_constant(name) and self._graph.array(name).ndim == 2 for name in node.input)

    def _pinned(self, name: str) -> Iterator[Tie]:
        own = self.channels(name)
        yield own, np.zeros_like(own)


def _multiply(graph: FloatGraph, node: onnx.NodeProto, read: Sizes, written: Sizes) -> None:
    """Take the factors of what a node reads out of its weights, and those of what it writes in."""
    weight = graph.array(node.input[1])
    rows = rescaled(np.moveaxis(weight, output_axis(node), 0), read, written)
    graph.replace(node.input[1], np.moveaxis(rows, 0, output_axis(node)))
    if len(node.input) > 2 and node.input[2]:
        graph.replace(node.input[2], graph.array(node.input[2]) * written)
