"""Two activation functions written with operators that XNNPACK computes in INT8, before a float file is quantised.

LiteRT's CPU has one slow INT8 kernel for each, on one thread, outside of XNNPACK: the 42 ReLUs of DFANet A that no
convolution takes in were three quarters of its time, and the hard-swishes of LR-ASPP half of it. Multiplications and
additions run in XNNPACK, with a ReLU or ReLU6 inside. What the file computes stays the same, for delegates that read
its integers as floats, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def within_xnnpack(model: bytes) -> bytes:
    """A float .tflite file without ReLUs and hard-swishes as operators of their own.

    relu(x) = relu(x · 1), and hard-swish(x) = x · (relu6(x + 3) · 1/6).
    """
    from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray, read_model_from_bytearray

    read = read_model_from_bytearray(bytearray(model))
    for graph in read.subgraphs:
        _Rewrite(read, graph).run()
    return bytes(convert_object_to_bytearray(read))


class _Rewrite:
    """One graph of a file, in place."""

    def __init__(self, model: Any, graph: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._model, self._graph, self._schema = model, graph, schema

    def run(self) -> None:
        builtin, operators = self._schema.BuiltinOperator, []
        writers = {builtin.RELU: self._relu, builtin.HARD_SWISH: self._hard_swish}
        for op in self._graph.operators:
            write = writers.get(self._model.operatorCodes[op.opcodeIndex].builtinCode)
            operators += write(op.inputs[0], op.outputs[0]) if write else [op]
        self._graph.operators = operators

    def _relu(self, x: int, y: int) -> list[Any]:
        return [self._operator("MUL", [x, self._constant("one", 1.0)], y, "RELU")]

    def _hard_swish(self, x: int, y: int) -> list[Any]:
        shape = self._graph.tensors[x].shape
        shifted, gate = (self._tensor(f"{what} {y}", shape) for what in ("shifted", "gate"))
        return [self._operator("ADD", [x, self._constant("three", 3.0)], shifted, "RELU6"),
                self._operator("MUL", [shifted, self._constant("sixth", 1 / 6)], gate),
                self._operator("MUL", [x, gate], y)]

    def _operator(self, kind: str, inputs: Sequence[int], output: int, activation: str = "NONE") -> Any:
        options = getattr(self._schema, f"{kind.capitalize()}OptionsT")()
        options.fusedActivationFunction = getattr(self._schema.ActivationFunctionType, activation)
        return self._made("OperatorT", {
            "opcodeIndex": self._code(getattr(self._schema.BuiltinOperator, kind)),
            "inputs": np.array(inputs, np.int32), "outputs": np.array([output], np.int32), "builtinOptions": options,
            "builtinOptionsType": getattr(self._schema.BuiltinOptions, f"{kind.capitalize()}Options")})

    def _code(self, builtin: int) -> int:
        """The place of an operator among those that the file names."""
        codes = self._model.operatorCodes
        if (found := next((i for i, code in enumerate(codes) if code.builtinCode == builtin), None)) is not None:
            return found
        codes.append(self._made("OperatorCodeT", {"builtinCode": builtin, "deprecatedBuiltinCode": builtin,
                                                  "version": 1}))
        return len(codes) - 1

    def _constant(self, name: str, value: float) -> int:
        names = [tensor.name for tensor in self._graph.tensors]
        return names.index(name) if name in names else self._tensor(name, [1], np.array([value], np.float32))

    def _tensor(self, name: str, shape: Sequence[int], data: np.ndarray[Any, Any] | None = None) -> int:
        buffer = self._made("BufferT", {"data": None if data is None else data.view(np.uint8)})
        self._model.buffers.append(buffer)
        self._graph.tensors.append(self._made("TensorT", {
            "name": name, "shape": np.array(shape, np.int32), "type": self._schema.TensorType.FLOAT32,
            "buffer": len(self._model.buffers) - 1, "hasRank": True}))
        return len(self._graph.tensors) - 1

    def _made(self, kind: str, values: Mapping[str, Any]) -> Any:
        found = getattr(self._schema, kind)()
        for key, value in values.items():
            setattr(found, key, value)
        return found
