"""A whole ONNX graph, counted: shapes inferred, every node through its rule, and the memory that activations need."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from benchmarks.counting import RULES, WEIGHTED, CountedLayer, Shape

if TYPE_CHECKING:
    import onnx

_THROUGH = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity", "Transpose", "Reshape")
"""What a weight may pass between its constant and the product that reads it."""


@dataclass(frozen=True)
class GraphCost:
    """What a graph computes; conventions in `benchmarks.counting`.

    Attributes:
        layers: in the order of the graph.
        peak_activation_bytes: largest sum of tensors that are alive at the same time, when every tensor is freed after
            its last reader and nothing is computed in place; None when a shape is not known.
    """

    layers: tuple[CountedLayer, ...]
    peak_activation_bytes: int | None

    @property
    def uncounted(self) -> tuple[CountedLayer, ...]:
        """Layers that the totals leave out."""
        return tuple(layer for layer in self.layers if layer.reason)

    @property
    def parameters(self) -> int:
        """Weights and biases in the graph, where normalisations are folded into convolutions."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Of all counted layers."""
        return sum(layer.macs or 0 for layer in self.layers)

    @property
    def flops(self) -> int:
        """Of all counted layers."""
        return 2 * self.macs

    @property
    def other_ops(self) -> int:
        """Of all counted layers."""
        return sum(layer.other_ops or 0 for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        """Of all constants, as they are stored."""
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Of everything that layers write."""
        return sum(layer.activation_bytes or 0 for layer in self.layers)


def cost_of_graph(model: onnx.ModelProto, size: tuple[int, int] | None = None) -> GraphCost:
    """Count a model.

    Args:
        model: any ONNX model; left as it is.
        size: input (H, W) where the graph's own is open and its input is [1, H, W, 3].
    """
    import onnx
    from onnx import inliner

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    if fixed.functions:
        fixed = inliner.inline_local_functions(fixed)
    if size is not None:
        _fix_size(fixed, size)
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    tensors = _Tensors(graph)
    layers = tuple(_layer(node, tensors) for node in graph.node if node.op_type != "Constant")
    return GraphCost(layers, _peak(graph, tensors))


def _fix_size(model: onnx.ModelProto, size: tuple[int, int]) -> None:
    for dimension, value in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, *size, 3)):
        dimension.Clear()
        dimension.dim_value = value
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")


class _Tensors:
    """Shapes, bytes and constants by tensor name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        from onnx import helper, numpy_helper

        self.shapes: dict[str, Shape] = {}
        self.bytes: dict[str, int] = {}
        self.constants: dict[str, int] = {}  # name → elements; also of what is computed from constants alone
        self.stored: dict[str, int] = {}  # name → bytes in the file
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
                shape = tuple(d.dim_value for d in tensor.shape.dim)
                self._add(value.name, shape, helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize)
        stored = [(node.output[0], node.attribute[0].t) for node in graph.node
                  if node.op_type == "Constant" and node.attribute[0].name == "value"]
        for name, tensor in (*stored, *((tensor.name, tensor) for tensor in graph.initializer)):
            self._add(name, tuple(tensor.dims), numpy_helper.to_array(tensor).itemsize)
            self.constants[name], self.stored[name] = prod(tensor.dims), self.bytes[name]
        for node in graph.node:
            if node.op_type in _THROUGH and node.input[0] in self.constants:
                self.constants[node.output[0]] = self.constants[node.input[0]]

    def _add(self, name: str, shape: Shape, itemsize: int) -> None:
        self.shapes[name], self.bytes[name] = shape, prod(shape) * itemsize


def _layer(node: onnx.NodeProto, tensors: _Tensors) -> CountedLayer:
    inputs = tuple(name for name in node.input if name)
    outputs = [name for name in node.output if name]
    constants = [name for name in inputs if name in tensors.constants]
    counts, reason = _counts(node, tensors)
    weighted = node.op_type in WEIGHTED
    return CountedLayer(
        node.name or outputs[0], node.op_type, inputs, outputs[0], tensors.shapes.get(outputs[0], ()),
        sum(tensors.constants[name] for name in _weights(node, constants)) if weighted else 0,
        counts and counts[0], counts and counts[1],
        _activation_bytes(outputs, tensors), sum(tensors.stored.get(name, 0) for name in constants), reason)


def _activation_bytes(outputs: list[str], tensors: _Tensors) -> int | None:
    written = [name for name in outputs if name not in tensors.constants]
    return sum(tensors.bytes[name] for name in written) if all(name in tensors.bytes for name in written) else None


def _weights(node: onnx.NodeProto, constants: list[str]) -> list[str]:
    """The constants that are parameters: a quantised operator also reads scales and zero points, and a normalisation
    that no convolution takes in its mean and variance."""
    if node.op_type == "BatchNormalization":
        return [name for name in node.input[1:3] if name in constants]
    if node.op_type == "QLinearConv":
        return [name for i, name in enumerate(node.input) if i in (3, 8) and name in constants]
    if node.op_type == "QLinearMatMul":
        return [name for i, name in enumerate(node.input) if i == 3 and name in constants]
    if node.op_type in ("ConvInteger", "MatMulInteger"):
        return [name for name in constants if name in node.input[:2]]
    return constants


def _counts(node: onnx.NodeProto, tensors: _Tensors) -> tuple[tuple[int, int] | None, str]:
    if node.output[0] in tensors.constants:
        return (0, 0), ""  # engines fold it
    rule = RULES.get(node.op_type)
    if rule is None:
        return None, f"no rule for {node.op_type}"
    missing = [name for name in (*node.input, *node.output) if name and name not in tensors.shapes]
    if missing:
        return None, f"the shape of {missing[0]} is not known"
    shapes = [[tensors.shapes[name] if name else () for name in names] for names in (node.input, node.output)]
    return rule(node, *shapes), ""


def _peak(graph: onnx.GraphProto, tensors: _Tensors) -> int | None:
    """See `GraphCost.peak_activation_bytes`."""
    ends = {value.name: len(graph.node) for value in graph.output}
    for step, node in enumerate(graph.node):
        for name in node.input:
            ends[name] = max(ends.get(name, step), step)
    alive = {value.name: tensors.bytes.get(value.name) for value in graph.input if value.name not in tensors.constants}
    peak = 0
    for step, node in enumerate(graph.node):
        alive |= {name: tensors.bytes.get(name) for name in node.output if name and name not in tensors.constants}
        sizes = [size for size in alive.values() if size is not None]
        if len(sizes) < len(alive):
            return None
        peak = max(peak, sum(sizes))
        alive = {name: size for name, size in alive.items() if ends.get(name, step) > step}
    return peak
