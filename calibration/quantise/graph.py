"""A float ONNX graph read as layers: what each node is for people, what it costs, and whether it can be calibrated."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from runtime.errors import UserError

ACTIVATIONS = {"Relu": "ReLU", "HardSwish": "hard-swish", "HardSigmoid": "hard-sigmoid", "Sigmoid": "sigmoid",
               "LeakyRelu": "leaky ReLU", "Clip": "clip", "PRelu": "PReLU", "Softmax": "softmax", "Tanh": "tanh",
               "Swish": "swish", "Mish": "mish", "Elu": "ELU", "Gelu": "GELU"}
"""Operators that follow a layer and are named after it."""

DEPTHWISE = "depthwise"
"""The role of convolutions that add up no two channels."""

FIRST = "first convolution"
"""The role of the one that reads the frame."""

_WORDS = {"Add": "addition", "Mul": "product", "Concat": "concatenation", "Resize": "resize",
          "GlobalAveragePool": "global pool", "AveragePool": "average pool", "MaxPool": "max pool"}


@dataclass(frozen=True)
class Layer:
    """One node of the graph.

    Attributes:
        node: the node's name in the graph, unique.
        name: what people call it: the weight's name without "network." and ".weight", or "<what> after <layer>".
        role: "first convolution", "depthwise", "pointwise", "convolution", "SE gate", "classifier", "fully connected",
            or the kind of operator, such as "hard-swish".
        op: ONNX operator; "Gelu" for each node of one that is written out.
        macs: multiply-accumulates per frame; 0 for all but convolutions and matrix products.
    """

    node: str
    name: str
    role: str
    op: str
    macs: int


class FloatGraph:
    """A float32 graph with what calibration has to know of it. The model is a copy; `model` may be changed freely.

    Raises:
        UserError: the graph is quantised already, has nodes that differ in size with the frame, or nothing to quantise.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        _refuse_quantised(self.model)
        for index, node in enumerate(self.model.graph.node):
            node.name = node.name or f"{node.op_type}_{index}"
        self.graph = self.model.graph
        self.nodes = {node.name: node for node in self.graph.node}
        self.producer = {name: node for node in self.graph.node for name in node.output}
        self.consumers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.graph.node:
            for name in node.input:
                self.consumers[name].append(node)
        self.outputs = {value.name for value in self.graph.output}
        self._tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        self.shapes, self._types = _shapes(self.model)
        if not any(layer.macs for layer in self.layers):
            raise UserError("the graph has no convolution or matrix product with constant weights; expected a "
                            "network to quantise")

    def array(self, name: str) -> npt.NDArray[np.float32]:
        """A constant's value."""
        return np.asarray(numpy_helper.to_array(self._tensors[name]))

    def replace(self, name: str, value: npt.NDArray[np.float32]) -> None:
        """Give a constant another value of the same shape."""
        assert list(value.shape) == list(self._tensors[name].dims)
        self._tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is stored in the graph rather than computed."""
        return name in self._tensors

    def is_float(self, name: str) -> bool:
        """Whether a tensor is a computed float32 activation."""
        return name in self._types and self._types[name] == TensorProto.FLOAT and name not in self._tensors

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """The float32 activations that a node reads."""
        return [name for name in node.input if name and self.is_float(name)]

    @cached_property
    def float_tensors(self) -> tuple[str, ...]:
        """All float32 activations of at least two dimensions, in the order in which they are computed."""
        return tuple(name for node in self.graph.node for name in node.output
                     if self.is_float(name) and len(self.shapes[name]) >= 2)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """All nodes that read a float32 activation, in order."""
        named: dict[str, str] = {}
        found: list[Layer] = []
        for node in self.graph.node:
            source = next((named[self.producer[name].name] for name in node.input
                           if name in self.producer and self.producer[name].name in named), "input")
            weighted = has_weights(node) and self.is_constant(node.input[1])
            called = _weight_name(node) if weighted else source
            named[node.name] = called
            if not self.activations(node):
                continue
            op = "Gelu" if node.name in self._gelus else node.op_type
            role = ACTIVATIONS.get(op) or self._role(node, weighted, first=not any(layer.macs for layer in found))
            name = called if weighted else f"{role} after {called}"
            found.append(Layer(node.name, name, role, op, self._macs(node) if weighted else 0))
        return tuple(found)

    @cached_property
    def _gelus(self) -> frozenset[str]:
        """Every node of x · (1 + erf(x / √2)) · 0.5, for which opset 18 has no operator: an engine makes one of them,
        where no rounding stands in between."""
        found: set[str] = set()
        for erf in (node for node in self.graph.node if node.op_type == "Erf"):
            chain = [erf]
            for kind in ("Add", "Mul", "Mul"):
                after = self.consumers[chain[-1].output[0]]
                chain += after if len(after) == 1 and after[0].op_type == kind else []
            if len(chain) == 4:
                found |= {node.name for node in (self.producer[erf.input[0]], *chain)}
        return frozenset(found)

    @cached_property
    def by_node(self) -> dict[str, Layer]:
        """Node name → layer."""
        return {layer.node: layer for layer in self.layers}

    def reaches_output(self, node: onnx.NodeProto) -> bool:
        """Whether nothing but additions, resizes and moves lies between a layer and the logits."""
        name = node.output[0]
        while name not in self.outputs:
            after = self.consumers[name]
            if len(after) != 1 or after[0].op_type not in {"Add", "Transpose", "Resize", "ArgMax", "Cast", "Identity"}:
                return False
            name = after[0].output[0]
        return True

    def _macs(self, node: onnx.NodeProto) -> int:
        weight = self._tensors[node.input[1]].dims
        out = math.prod(self.shapes[node.output[0]])
        return out * (math.prod(weight[1:]) if node.op_type == "Conv" else self.shapes[node.input[0]][-1])

    def _role(self, node: onnx.NodeProto, weighted: bool, first: bool) -> str:
        if not weighted:
            return _WORDS.get(node.op_type, node.op_type)
        if first:
            return FIRST
        if self.reaches_output(node):
            return "classifier"
        if self.shapes[node.output[0]][2:] == (1, 1):
            return "SE gate"
        if node.op_type != "Conv":
            return "fully connected"
        weight = self._tensors[node.input[1]].dims
        if weight[1] == 1 and weight[0] > 1:
            return DEPTHWISE
        return "pointwise" if tuple(weight[2:]) == (1, 1) else "convolution"


def has_weights(node: onnx.NodeProto) -> bool:
    """Whether a node is of the kind that multiplies by stored weights."""
    return node.op_type in {"Conv", "Gemm", "MatMul"} and len(node.input) >= 2


def _weight_name(node: onnx.NodeProto) -> str:
    name = node.input[1].removeprefix("network.").removesuffix(".weight")
    return node.name if "::" in name or name.isdecimal() else name


def _refuse_quantised(model: onnx.ModelProto) -> None:
    kinds = {node.op_type for node in model.graph.node}
    quantised = {kind for kind in kinds if kind.startswith(("QLinear", "Quantize", "Dequantize", "DynamicQuantize"))
                 or kind.endswith("Integer")}
    if quantised:
        raise UserError(f"the model is quantised already (it has {', '.join(sorted(quantised))}); expected float32",
                        try_="the fp32 artifact that it was made from")
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        raise UserError("the model's weights are float16; expected float32, from which INT8 is made in one rounding",
                        try_="python -m export.onnx NAME --precision fp32")


def _shapes(model: onnx.ModelProto) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes, types = {}, {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        if 0 in shape:
            raise UserError(f"tensor {value.name} has a shape that the frame decides ({shape}); expected a fixed size",
                            try_="python -m export.onnx NAME --size HxW, without --dynamic")
        shapes[value.name], types[value.name] = shape, value.type.tensor_type.elem_type
    return shapes, types
