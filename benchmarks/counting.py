"""How much each layer of an ONNX graph computes. The conventions, stated once:

    MACs        multiply-accumulates of convolutions and matrix products, as torch's counter and most papers count them;
                bias and normalisation are left out
    FLOPs       2 x MACs, nothing else
    other_ops   operations outside the products: one per output element of an elementwise operator, one per element read
                by a pooling or reduction, and one per tap of an interpolation
    parameters  elements of the constants that products and normalisations read (weights, biases)

An operator that no rule covers, or whose shape is not known, is reported as uncounted and never as a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]
Counts = tuple[int, int]
"""(MACs, other operations)."""
Rule = Callable[["onnx.NodeProto", Sequence[Shape], Sequence[Shape]], Counts]
"""Node, its input shapes, its output shapes → counts."""


def convolution(weight: int) -> Rule:
    """Each output element sums over one filter; `weight` is the position of the [O, I/groups, ...] filters."""
    return lambda node, x, y: (prod(y[0]) * prod(x[weight][1:]), 0)


def transposed_convolution(node: onnx.NodeProto, x: Sequence[Shape], y: Sequence[Shape]) -> Counts:
    """Each input element meets one [O/groups, ...] filter."""
    return prod(x[0]) * prod(x[1][1:]), 0


def product(left: int) -> Rule:
    """[..., M, K] x [..., K, N]: each output element sums over K; `left` is the position of the first factor."""
    return lambda node, x, y: (prod(y[0]) * x[left][-1], 0)


def gemm(node: onnx.NodeProto, x: Sequence[Shape], y: Sequence[Shape]) -> Counts:
    """[M, K] x [K, N], the first possibly given as [K, M]."""
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(y[0]) * x[0][0 if transposed else 1], 0


def written(cost: int) -> Rule:
    """`cost` operations for every element written."""
    return lambda node, x, y: (0, cost * prod(y[0]))


def read(node: onnx.NodeProto, x: Sequence[Shape], y: Sequence[Shape]) -> Counts:
    """One operation for every element read."""
    return 0, prod(x[0])


def window(node: onnx.NodeProto, x: Sequence[Shape], y: Sequence[Shape]) -> Counts:
    """One operation for every element of the window, for every element written."""
    kernel = next(a.ints for a in node.attribute if a.name == "kernel_shape")
    return 0, prod(y[0]) * prod(kernel)


def resize(node: onnx.NodeProto, x: Sequence[Shape], y: Sequence[Shape]) -> Counts:
    """Taps per element: nearest copies, linear reads two per resized axis, cubic four."""
    mode = next((a.s.decode() for a in node.attribute if a.name == "mode"), "nearest")
    axes = sum(a != b for a, b in zip(x[0], y[0]))
    return 0, prod(y[0]) * {"nearest": 0, "linear": 2**axes, "cubic": 4**axes}[mode]


def grid_sample(node: onnx.NodeProto, x: Sequence[Shape], y: Sequence[Shape]) -> Counts:
    """Taps per element, as in `resize`."""
    mode = next((a.s.decode() for a in node.attribute if a.name == "mode"), "linear")
    return 0, prod(y[0]) * {"nearest": 0, "linear": 4, "bilinear": 4, "cubic": 16, "bicubic": 16}[mode]


_ELEMENTWISE = (
    "Abs", "Add", "And", "Ceil", "Clip", "DequantizeLinear", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max",
    "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "PRelu", "QuantizeLinear", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu",
    "Where", "Xor", "BatchNormalization")
_REDUCTIONS = (
    "ArgMax", "ArgMin", "GlobalAveragePool", "GlobalMaxPool", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare")
_MOVES = (
    "Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Dropout", "Expand", "Flatten",
    "Gather", "GatherElements", "GatherND", "Identity", "Pad", "Range", "Reshape", "Shape", "Size", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze")

RULES: dict[str, Rule] = {
    "Conv": convolution(1), "FusedConv": convolution(1), "ConvInteger": convolution(1), "QLinearConv": convolution(3),
    "ConvTranspose": transposed_convolution,
    "Gemm": gemm, "MatMul": product(0), "MatMulInteger": product(0), "QLinearMatMul": product(0),
    "AveragePool": window, "MaxPool": window, "Resize": resize, "GridSample": grid_sample,
    "Softmax": written(3), "LogSoftmax": written(3),  # exponential, sum, division
    **dict.fromkeys(_ELEMENTWISE, written(1)), **dict.fromkeys(_REDUCTIONS, read), **dict.fromkeys(_MOVES, written(0)),
}
"""Operator → how it is counted. Those that only move or convert data count nothing by definition."""

WEIGHTED = ("Conv", "FusedConv", "ConvInteger", "QLinearConv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger",
            "QLinearMatMul", "BatchNormalization", "PRelu")
"""Operators whose constants are parameters."""


@dataclass(frozen=True)
class CountedLayer:
    """One node.

    Attributes:
        name: of the node.
        op: its operator.
        inputs: names of the tensors that it reads.
        output: name of its first output.
        shape: of that output; () when not known.
        parameters: see the module's conventions.
        macs: multiply-accumulates; None when uncounted.
        other_ops: operations outside products; None when uncounted.
        activation_bytes: size of its outputs; None when not known.
        weight_bytes: size of the constants that it reads.
        reason: why it is uncounted; "" otherwise.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    output: str
    shape: Shape
    parameters: int
    macs: int | None
    other_ops: int | None
    activation_bytes: int | None
    weight_bytes: int
    reason: str = ""
