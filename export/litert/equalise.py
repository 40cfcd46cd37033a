"""Channels brought to similar sizes in a float file before it is quantised, without changing what it computes.

`calibration.quantise.equalise` says how, and does so in an ONNX graph; here are LiteRT's operators. All tensors between
them have one scale for all channels. DFANet A lost most of what it lost where it concatenates attended features, up to
1200, with those of an earlier stage, up to 11 (docs/litert.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from calibration.quantise.equalise import Channels, Sizes, Tie, factors, joined

PRODUCTS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
"""Whose weights take factors in, so that what they write has other factors than what they read."""

PASSING = {"AVERAGE_POOL_2D", "LEAKY_RELU", "MAX_POOL_2D", "MEAN", "PAD", "PRELU", "RELU", "RESHAPE", "RESIZE_BILINEAR",
           "RESIZE_NEAREST_NEIGHBOR"}
"""f(s·x) = s·f(x) for s > 0, channel by channel; MEAN and RESHAPE as long as the last axis stays."""


def equalised(model: bytes, largest: Mapping[str, Sizes]) -> bytes:
    """The same float .tflite file with other weights.

    Args:
        model: a float .tflite file.
        largest: [C] largest magnitude of each channel, of every tensor that an operator makes, by name.
    """
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray, read_model_from_bytearray

    read = read_model_from_bytearray(bytearray(model))
    graph = _ChannelGraph(read)
    factor = factors(joined(graph.ties(), graph.count), graph.by_channel(largest))
    for op in graph.operators:
        if graph.takes_in(op):
            graph.multiply(op, factor)
    return bytes(convert_object_to_bytearray(read))


class _ChannelGraph:
    """The graph of a file, with a number for every channel of its tensors; 0 stands for what must not be scaled.

    Attributes:
        operators: in order.
        count: of numbers.
    """

    def __init__(self, model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._model, self._graph, self._schema = model, model.subgraphs[0], schema
        self.operators = self._graph.operators
        self._kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
        self._shapes = [tuple(map(int, () if tensor.shape is None else tensor.shape)) for tensor in self._graph.tensors]
        self._counts = [shape[-1] if shape else 1 for shape in self._shapes]
        self._first = np.cumsum([1, *self._counts])
        self.count = int(self._first[-1])
        self._readers = Counter(int(index) for op in self.operators for index in op.inputs)
        self._holders = Counter(tensor.buffer for tensor in self._graph.tensors)

    def by_channel(self, largest: Mapping[str, Sizes]) -> Sizes:
        """Of every channel, in one array; 0 where nothing is known."""
        found = np.zeros(self.count, np.float32)
        for index, tensor in enumerate(self._graph.tensors):
            name = tensor.name.decode()
            if name in largest:
                found[self._channels(index)] = largest[name]
        return found

    def ties(self) -> Iterator[Tie]:
        """Channels that have one factor."""
        for index in (*self._graph.inputs, *self._graph.outputs):
            yield self._channels(index), np.zeros(self._counts[index], np.intp)
        for op in self.operators:
            yield from self._tied(op)

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

    def _tied(self, op: Any) -> Iterator[Tie]:
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
