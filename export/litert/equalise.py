"""Channels brought to similar sizes in a float file before it is quantised, without changing what it computes.

An INT8 tensor of LiteRT has one scale for all of its channels, so that a channel a hundred times smaller than its
neighbour has two or three levels left. DFANet A lost most of what it lost where it concatenates attended features, up
to 1200, with those of an earlier stage, up to 11 (docs/litert.md). A convolution brings a channel to any size at no
cost: the factor goes into its weights, and out of those of the next. Operators in between that keep to their channels
and let a positive factor through (ReLU, sums, interpolation, concatenation, …) tie channels together: all of these have
one factor, along a whole chain of skip connections. `calibration.quantise.equalise` does so for pairs of convolutions
(Nagel et al., ICCV 2019, §4.1).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

LIMIT = 16.0
"""Largest factor, and the inverse of the smallest: a channel that hardly ever fires must not rule its neighbours."""

FRAMES = 8
"""That show how large each channel gets."""

PRODUCTS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
"""Whose weights take factors in, so that what they write has other factors than what they read."""

PASSING = {"AVERAGE_POOL_2D", "LEAKY_RELU", "MAX_POOL_2D", "MEAN", "PAD", "PRELU", "RELU", "RESHAPE", "RESIZE_BILINEAR",
           "RESIZE_NEAREST_NEIGHBOR"}
"""f(s·x) = s·f(x) for s > 0, channel by channel; MEAN and RESHAPE as long as the last axis stays."""

Channels = npt.NDArray[np.intp]
Sizes = npt.NDArray[np.float32]


def equalised(model: bytes, largest: Mapping[str, Sizes]) -> bytes:
    """The same float .tflite file with other weights.

    Args:
        model: a float .tflite file.
        largest: [C] largest magnitude of each channel, of every tensor that an operator makes, by name.
    """
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray, read_model_from_bytearray

    read = read_model_from_bytearray(bytearray(model))
    graph = _ChannelGraph(read)
    factor = factors(graph.labels(), graph.by_channel(largest))
    for op in graph.operators:
        if graph.takes_in(op):
            graph.multiply(op, factor)
    return bytes(convert_object_to_bytearray(read))


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


class _ChannelGraph:
    """The graph of a file, with a number for every channel of its tensors; 0 stands for what must not be scaled.

    Attributes:
        operators: in order.
    """

    def __init__(self, model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._model, self._graph, self._schema = model, model.subgraphs[0], schema
        self.operators = self._graph.operators
        self._kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
        self._shapes = [tuple(map(int, () if tensor.shape is None else tensor.shape)) for tensor in self._graph.tensors]
        self._counts = [shape[-1] if shape else 1 for shape in self._shapes]
        self._first = np.cumsum([1, *self._counts])
        self._readers = Counter(int(index) for op in self.operators for index in op.inputs)
        self._holders = Counter(tensor.buffer for tensor in self._graph.tensors)

    def by_channel(self, largest: Mapping[str, Sizes]) -> Sizes:
        """Of every channel, in one array; 0 where nothing is known."""
        found = np.zeros(self._first[-1], np.float32)
        for index, tensor in enumerate(self._graph.tensors):
            name = tensor.name.decode()
            if name in largest:
                found[self._channels(index)] = largest[name]
        return found

    def labels(self) -> Channels:
        """Of every channel, the lowest number among those that share its factor."""
        ends = [*self._graph.inputs, *self._graph.outputs]
        ties = [(self._channels(index), np.zeros(self._counts[index], np.intp)) for index in ends]
        ties += [tie for op in self.operators for tie in self._ties(op)]
        one, other = (np.concatenate(side) for side in zip(*ties))
        label = np.arange(self._first[-1])
        while True:
            lowest, before = np.minimum(label[one], label[other]), label.copy()
            np.minimum.at(label, one, lowest)
            np.minimum.at(label, other, lowest)
            label = label[label]
            if np.array_equal(label, before):
                return label

    def takes_in(self, op: Any) -> bool:
        """Whether an operator's weights and bias are its own, and have the channels of what it reads and writes."""
        constants = [index for index in op.inputs[1:] if index >= 0]
        if self._kind(op) not in PRODUCTS or not all(
                self._readers[index] == self._holders[self._graph.tensors[index].buffer] == 1
                and not self._is_computed(index) for index in constants):
            return False
        read, written = self._counts[op.inputs[0]], self._counts[op.outputs[0]]
        rows, *_, columns = self._shapes[op.inputs[1]]
        return bool(columns == read and written == (read if self._depthwise(op) else rows))

    def multiply(self, op: Any, factor: Sizes) -> None:
        """Take the factors of what an operator reads out of its weights, and those of what it writes in."""
        read, written = (factor[self._channels(index)] for index in (op.inputs[0], op.outputs[0]))
        weight = self._constant(op.inputs[1])
        rows = written if self._depthwise(op) else written.reshape(-1, *[1] * (weight.ndim - 1))
        self._store(op.inputs[1], weight * rows / read)
        for bias in op.inputs[2:]:
            if bias >= 0:
                self._store(bias, self._constant(bias) * written)

    def _ties(self, op: Any) -> Iterator[tuple[Channels, Channels]]:
        """Channels that have one factor."""
        kind, result = self._kind(op), self._channels(op.outputs[0])
        if self.takes_in(op):
            if not self._passes(op):
                yield result, np.zeros_like(result)
            return
        read = [index for index in op.inputs if index >= 0 and self._is_computed(index)]
        read.sort(key=lambda index: -math.prod(self._shapes[index]))
        alike = self._passes(op) and all(self._counts[index] == len(result) for index in read)
        if alike and (kind in PASSING or (kind in {"ADD", "SUB"} and len(read) == 2)):
            yield from ((self._channels(index), result) for index in read)
        elif alike and kind == "MUL":  # a gate stays as it is
            yield self._channels(read[0]), result
            yield from ((self._channels(index), np.zeros_like(result)) for index in read[1:])
        elif kind == "CONCATENATION" and self._passes(op) and sum(self._counts[i] for i in read) == len(result):
            yield np.concatenate([self._channels(index) for index in op.inputs]), result
        else:
            for index in (*read, *op.outputs):
                yield self._channels(index), np.zeros(self._counts[index], np.intp)

    def _passes(self, op: Any) -> bool:
        """Whether an operator lets factors through, by what it is set to."""
        function, inside = self._schema.ActivationFunctionType, getattr(op.builtinOptions, "fusedActivationFunction", 0)
        return inside in (function.NONE, function.RELU) and getattr(op.builtinOptions, "keepDims", True)

    def _kind(self, op: Any) -> str:
        return str(self._kinds[self._model.operatorCodes[op.opcodeIndex].builtinCode])

    def _depthwise(self, op: Any) -> bool:
        return self._kind(op) == "DEPTHWISE_CONV_2D"

    def _channels(self, index: int) -> Channels:
        return np.arange(self._first[index], self._first[index + 1])

    def _is_computed(self, index: int) -> bool:
        data = self._model.buffers[self._graph.tensors[index].buffer].data
        return data is None or not len(data)

    def _constant(self, index: int) -> Sizes:
        data = self._model.buffers[self._graph.tensors[index].buffer].data
        return np.asarray(data, np.uint8).view(np.float32).reshape(self._shapes[index])

    def _store(self, index: int, values: Sizes) -> None:
        buffer = self._model.buffers[self._graph.tensors[index].buffer]
        buffer.data = np.ascontiguousarray(values, np.float32).ravel().view(np.uint8)
