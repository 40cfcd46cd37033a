"""Depthwise convolutions widened to whole vectors, without changing what the network computes.

ONNX Runtime's integer kernel for them takes 16 channels at a time and what is left one by one: 12 channels take three
times as long as 16. The channels that are added are zero: their weights are, in every convolution that writes or reads
them. What keeps to its channels in between (activation functions, sums, gates, pools) computes something with them that
no one reads.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from calibration.data.coverage import Chosen
from calibration.quantise.equalise import Tie, computes_the_same, joined
from calibration.quantise.graph import FloatGraph

KEEPING = {"AveragePool", "Clip", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MaxPool",
           "Relu", "Sigmoid"}
"""Of one activation, channel by channel, whatever their number; so does a Resize that is told factors and no sizes."""

TOGETHER = {"Add", "Mul", "Sub"}
"""The same, of two activations."""

SIZES = 3
"""Which input of a Resize has the sizes of its output."""


def padded(graph: FloatGraph, vector: int, frames: Chosen) -> FloatGraph:
    """A copy whose depthwise convolutions have a multiple of `vector` channels, where nothing stands in the way; the
    graph itself where all have that already.

    Args:
        graph: the float graph; left as it is.
        vector: channels.
        frames: of which the first shows that the copy computes the same.

    Raises:
        GateFailed: it does not.
    """
    widths = _widths(graph, vector)
    if not widths:
        return graph
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in (node for node in model.graph.node if _is_own(graph, node)):
        read, written = (widths.get(name, graph.shapes[name][1]) for name in (node.input[0], node.output[0]))
        groups = [attribute for attribute in node.attribute if attribute.name == "group" and attribute.i > 1]
        _grow(stored[node.input[1]], (written, 1 if groups else read))
        for bias in node.input[2:]:
            _grow(stored[bias], (written,))
        for attribute in groups:
            attribute.i = written
    del model.graph.value_info[:]  # which has the shapes of before
    result = FloatGraph(model)
    computes_the_same(graph, result, frames.read(0), "depthwise convolutions are padded")
    return result


def _widths(graph: FloatGraph, vector: int) -> dict[str, int]:
    """Each tensor that gets more channels → how many then."""
    names = [name for name in graph.float_tensors if len(graph.shapes[name]) == 4]
    number = {name: index for index, name in enumerate(names, 1)}  # 0 stands for what stays as it is
    label = joined(_ties(graph, number), len(names) + 1)
    wanted = {label[number[node.input[0]]] for node in graph.graph.node if _is_depthwise(graph, node)}
    return {name: more for name in names if (at := label[number[name]]) and at in wanted
            and (more := -(-graph.shapes[name][1] // vector) * vector) > graph.shapes[name][1]}


def _ties(graph: FloatGraph, number: dict[str, int]) -> Iterator[Tie]:
    """Tensors that have the same channels, by number."""
    for node in graph.graph.node:
        if _is_own(graph, node) and not _is_depthwise(graph, node):
            continue  # it reads and writes channels that have nothing to do with each other
        read = [name for name in graph.activations(node) if name in number]
        other = number[node.output[0]] if _keeps(graph, node, read) else 0
        yield from ((np.array([number[name]]), np.array([other])) for name in (*read, *node.output) if name in number)
    yield from ((np.array([number[name]]), np.array([0])) for name in graph.outputs if name in number)
    yield np.array([0]), np.array([0])


def _keeps(graph: FloatGraph, node: onnx.NodeProto, read: list[str]) -> bool:
    """Whether each channel that a node writes comes from the same one of all that it reads, of any number of them."""
    if node.op_type in TOGETHER:
        alike = len(read) == 2
    elif node.op_type == "Resize":
        alike = len(read) == 1 and len(node.input) <= SIZES
    else:
        alike = len(read) == 1 and (node.op_type in KEEPING or _is_depthwise(graph, node))
    return alike and len({graph.shapes[name][1] for name in (*read, *node.output)}) == 1


def _is_own(graph: FloatGraph, node: onnx.NodeProto) -> bool:
    """Whether a node is a convolution of all channels, or a depthwise one, whose constants are its alone."""
    if node.op_type != "Conv" or not all(graph.is_constant(name) and len(graph.consumers[name]) == 1
                                         for name in node.input[1:]) or not graph.is_float(node.input[0]):
        return False
    weight, read = graph.array(node.input[1]).shape, graph.shapes[node.input[0]][1]
    return len(weight) == 4 and (weight[1] == read or weight[:2] == (read, 1))


def _is_depthwise(graph: FloatGraph, node: onnx.NodeProto) -> bool:
    return _is_own(graph, node) and graph.array(node.input[1]).shape[1] == 1 < graph.shapes[node.input[0]][1]


def _grow(tensor: onnx.TensorProto, shape: tuple[int, ...]) -> None:
    """Append zeros along the first axes of a constant."""
    value = numpy_helper.to_array(tensor)
    more = [(0, wanted - there) for wanted, there in zip(shape, value.shape)]
    tensor.CopyFrom(numpy_helper.from_array(np.pad(value, more + [(0, 0)] * (value.ndim - len(more))), tensor.name))
