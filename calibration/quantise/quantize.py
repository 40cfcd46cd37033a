"""An INT8 ONNX graph: Q/DQ pairs around the chosen nodes of a float graph, in the form that an engine computes best.

The rules that let one file run everywhere (symmetric INT8, zero-point 0, per-channel weights, float bias, opset ≤ 18)
leave little of a general quantiser, and the choice of ranges around activation functions is where the accuracy is;
so the pairs are set here, in one pass, rather than by onnxruntime.quantization, whose own rules would be overridden
tensor by tensor. `runtime.forms` has what differs between engines.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.quantise.channels import Reach
from calibration.quantise.graph import DEPTHWISE, FIRST, FloatGraph, Layer, has_weights
from calibration.quantise.rewrite import cast_before_transpose, drop_unused, gates_by_table, relus_of_integers
from calibration.quantise.thresholds import LEVELS as SIGNED
from calibration.quantise.thresholds import STEPS, Range
from runtime.forms import PORTABLE, Form

SAME_RANGE = {"MaxPool", "Resize", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
"""Operators whose output lies within their input's range: both get one scale, and engines move the integers as is."""

LARGEST = 127
"""Weight integer."""

PAIR = 126
"""What two neighbouring weights may add up to, in steps, before each is rounded by less than one. x86 without VNNI adds
the products of two with uint8 in 16 bits and cuts off what does not fit; 255 · 128 does."""


@dataclass(frozen=True)
class Plan:
    """What becomes an integer.

    Attributes:
        nodes: names of nodes to compute in INT8.
        activations: False quantises the weights alone, which makes the file small and leaves the arithmetic float.
        weights: node name → int8 weights that a rounding search has chosen, in place of the nearest ones: the integer
            above or below each.
        shifts: node name → [outputs] by how much rounding shifts a convolution's results; taken from its bias.
        form: how their integers stand, and which tensors are rounded.
        channels: tensor → what its channels represent, for the depthwise convolutions that read it.
    """

    nodes: frozenset[str]
    activations: bool = True
    weights: Mapping[str, npt.NDArray[np.int8]] = field(default_factory=dict)
    shifts: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    form: Form = PORTABLE
    channels: Mapping[str, Reach] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Which real numbers a tensor's integers stand for: scale · (q - zero)."""

    scale: float
    zero: int
    unsigned: bool


def all_nodes(graph: FloatGraph, form: Form = PORTABLE) -> frozenset[str]:
    """Every node that the form makes an integer, but for the addition of the logits: no engine gains by it, and 8 bits
    of logits would decide ties by class number."""
    return frozenset(layer.node for layer in graph.layers if layer.op in form.operators
                     and (form.first or not _is_first(graph, layer)) and _has_kernel(graph, layer, form.vector)
                     and not (layer.op != "Conv" and graph.reaches_output(graph.nodes[layer.node])))


def _is_first(graph: FloatGraph, layer: Layer) -> bool:
    """Whether a convolution reads the frame, or is a depthwise one that reads the activation function of such a one."""
    if layer.role != DEPTHWISE:
        return layer.role == FIRST and layer.op == "Conv"
    before = graph.producer.get(graph.nodes[layer.node].input[0])
    while before is not None and not has_weights(before) and len(graph.activations(before)) == 1:
        before = graph.producer.get(before.input[0])
    return before is not None and graph.by_node[before.name].role == FIRST


def _has_kernel(graph: FloatGraph, layer: Layer, vector: int) -> bool:
    """Whether engines have integers for a layer as it stands, fast ones where `vector` says how many channels of a
    depthwise convolution they take at once."""
    node = graph.nodes[layer.node]
    if has_weights(node) and not layer.macs:
        return False  # a product of two activations
    if layer.op in {"Add", "Mul"}:
        return len(graph.activations(node)) == 2  # a constant is none
    if layer.op != "Conv" or vector == 1:
        return True
    read, channels = graph.array(node.input[1]).shape[1], graph.shapes[node.input[0]][1]
    return read == channels or (read == 1 and channels % vector == 0)


def int8_from_float(graph: FloatGraph, thresholds: Mapping[str, Range], plan: Plan) -> onnx.ModelProto:
    """Write a graph whose chosen nodes read and write integers of 8 bits.

    Args:
        graph: the float graph; left as it is.
        thresholds: tensor → what is to be represented, as `calibration.quantise.thresholds` chooses it.
        plan: what to quantise.

    Returns:
        A valid model of the same opset. Every quantised activation is a pair of QuantizeLinear and DequantizeLinear
        with a scalar scale, or one scale per channel for what `plan.channels` names; every weight is stored as
        symmetric INT8 with one scale per output channel; biases stay float.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    tensors = quantised_tensors(graph, plan) if plan.activations else frozenset()
    grids = grids_from_thresholds(graph, thresholds, tensors, plan.form)
    by_channel = read_by_channel(graph, plan) if plan.activations else {}
    result = model.graph
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if by_channel.get(node.name) == name:
                node.input[index] = f"{name}_channels_dq"
            elif name in tensors and (node.name in plan.nodes or _written_in_integers(graph, name, plan)):
                node.input[index] = f"{name}_dq"
        if node.name in plan.nodes and has_weights(node) and graph.is_constant(node.input[1]):
            nodes.append(_weight_pair(graph, result, node, plan))
            if node.name in plan.shifts:
                _shift_back(graph, result, node, plan.shifts[node.name])
        nodes.append(node)
        for name in node.output:
            if name in tensors:
                nodes += _activation_pair(result, name, name, [grids[name]])
            if name in by_channel.values():
                nodes += _activation_pair(result, name, f"{name}_channels", _grids(plan.channels[name], plan.form))
    del result.node[:], result.value_info[:]
    result.node.extend(nodes)
    cast_before_transpose(result)
    if plan.form.tables:
        gates_by_table(result)
        relus_of_integers(result)
    drop_unused(result)
    onnx.checker.check_model(model, full_check=True)
    return model


def _written_in_integers(graph: FloatGraph, tensor: str, plan: Plan) -> bool:
    """Whether even float operators read a tensor as rounded: an integer kernel leaves them nothing else. Where a float
    one writes it, or hands on its sums, rounding it for every reader would let the errors of all layers add up along
    a network's skip connections (DFANet A: 98.1 % of pixels keep their class instead of 99.0)."""
    node = graph.producer[tensor]
    while node.op_type == "Relu" and node.input[0] in graph.producer:  # part of the kernel before it
        node = graph.producer[node.input[0]]
    return plan.form.outputs and node.name in plan.nodes


def quantised_tensors(graph: FloatGraph, plan: Plan) -> frozenset[str]:
    """The activations that the plan's nodes read and, where its form has it so, write. A graph's outputs stay float.

    With zero-points, the integers behind a convolution are its ReLU too, so that nothing is rounded between the two:
    every engine drops such a ReLU, and none fuses one that reads a pair.
    """
    by_channel = read_by_channel(graph, plan)
    found = {name for node in plan.nodes for name in graph.activations(graph.nodes[node])
             if by_channel.get(node) != name}
    written = {name for node in plan.nodes for name in graph.nodes[node].output
               if graph.is_float(name)} if plan.form.outputs else set()
    if plan.form.integers == "unsigned":
        passed = {name for name in written - found if {node.op_type for node in graph.consumers[name]} == {"Relu"}}
        written = (written - passed) | {node.output[0] for name in passed for node in graph.consumers[name]}
    return frozenset((found | written) - graph.outputs)


def read_by_channel(graph: FloatGraph, plan: Plan) -> dict[str, str]:
    """Each node of the plan that reads integers with a scale for each channel → the tensor, which no node reads that
    needs one scale: to round it twice would take longer. None that a matrix product of the plan writes: ONNX Runtime
    (1.31) fuses the two and breaks off."""
    products = {node.output[0] for node in graph.graph.node if node.op_type == "MatMul" and node.name in plan.nodes}
    return {node: name for node in plan.nodes
            if graph.by_node[node].role == DEPTHWISE and (name := graph.nodes[node].input[0]) in plan.channels
            and name not in products
            and all(graph.by_node[after.name].role == DEPTHWISE for after in graph.consumers[name]
                    if after.name in plan.nodes)}


def grids_from_thresholds(graph: FloatGraph, thresholds: Mapping[str, Range], tensors: Collection[str],
                          form: Form = PORTABLE) -> dict[str, Grid]:
    """The integers of each tensor: for its own range, or for what its surroundings make of it.

    - Before a ReLU only what passes it counts: the tensor takes the range of the ReLU's output, so that the second
      rounding changes nothing.
    - Before a hard-swish likewise, with at least the 3 below which everything is zero.
    - Before a hard-sigmoid nothing beyond its corners counts.
    - `SAME_RANGE` operators hand on their input's integers.
    """
    ranges: dict[str, Range] = {}

    def threshold(name: str) -> Range:
        if name not in ranges:
            ranges[name] = _surroundings(name)
        return ranges[name]

    def _surroundings(name: str) -> Range:
        producer, own = graph.producer[name], thresholds[name]
        if producer.op_type in SAME_RANGE and graph.is_float(producer.input[0]):
            return threshold(producer.input[0])
        after = graph.consumers[name]
        kinds = {node.op_type for node in after}
        if kinds == {"Relu"}:
            return Range(0.0, max(threshold(node.output[0]).high for node in after))
        if kinds == {"HardSwish"}:
            return Range(max(own.low, -3.0), max(3.0, *(threshold(node.output[0]).high for node in after)))
        if kinds == {"HardSigmoid"}:
            corner = max(_corner(node) for node in after)
            return Range(max(own.low, -corner), min(own.high, corner))
        return own

    return {name: _grid(threshold(name), form.is_unsigned(threshold(name).low)) for name in sorted(tensors)}


def _grid(reach: Range, unsigned: bool) -> Grid:
    if not any(reach):
        reach = Range(0.0, 1.0)  # always zero: any scale represents that
    return _unsigned(reach) if unsigned else _signed(reach)


def _grids(reach: Reach, form: Form) -> list[Grid]:
    """One for each channel, all of one type."""
    unsigned = form.is_unsigned(float(reach.low.min()))
    return [_grid(Range(low, high), unsigned) for low, high in zip(reach.low.tolist(), reach.high.tolist())]


def _signed(reach: Range) -> Grid:
    return Grid(max(-reach.low, reach.high) / SIGNED, 0, False)


def _unsigned(reach: Range) -> Grid:
    scale = (reach.high - reach.low) / STEPS
    return Grid(scale, round(-reach.low / scale), True)


def _corner(node: onnx.NodeProto) -> float:
    """The magnitude from which a hard-sigmoid max(0, min(1, alpha x + beta)) is constant on both sides."""
    values: dict[str, float] = {"alpha": 0.2, "beta": 0.5} | {a.name: a.f for a in node.attribute}
    return max(values["beta"], 1 - values["beta"]) / values["alpha"]


def weight_scales(node: onnx.NodeProto, weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """One scale per output channel: the finest one by which each of its weights fits into int8, and the products of any
    two neighbours into 16 bits. Kernels add those up channel by channel within a tap, and tap by tap. Those of a
    depthwise convolution are widened before, on every processor.
    """
    rows = np.abs(np.moveaxis(weight, output_axis(node), 0))
    rows = np.moveaxis(rows, 1, -1).reshape(len(rows), -1)  # [outputs, taps · channels]
    scale = rows.max(axis=1) / LARGEST
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    if not 1 < groups == len(weight):
        scale = np.maximum(scale, (rows[:, :-1] + rows[:, 1:]).max(axis=1, initial=0) / PAIR)
    return np.asarray(np.where(scale > 0, scale, 1 / LARGEST), np.float32)


def output_axis(node: onnx.NodeProto) -> int:
    """Which axis of a node's weights counts its output channels."""
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and transposed) else 1  # MatMul: [inputs, outputs]


def nearest(weight: npt.NDArray[np.float32], scale: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.int8]:
    """Weights rounded to the nearest integers of their channel's scale."""
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    rounded = np.rint(weight / scale.reshape(shape))
    return np.asarray(np.clip(rounded, -LARGEST, LARGEST), dtype=np.int8)


def stored_weights(graph: FloatGraph, node: onnx.NodeProto, plan: Plan) -> npt.NDArray[np.float32]:
    """The weights that a node computes with under a plan: integers times their scales."""
    integers, scale, axis = _integers(graph, node, plan)
    return np.asarray(integers * scale.reshape([-1 if i == axis else 1 for i in range(integers.ndim)]), np.float32)


def _integers(graph: FloatGraph, node: onnx.NodeProto,
              plan: Plan) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], int]:
    weight, axis = graph.array(node.input[1]), output_axis(node)
    scale = weight_scales(node, weight)
    chosen = plan.weights.get(node.name)
    return nearest(weight, scale, axis) if chosen is None else chosen, scale, axis


def _weight_pair(graph: FloatGraph, result: onnx.GraphProto, node: onnx.NodeProto, plan: Plan) -> onnx.NodeProto:
    """Store a node's weights as INT8; returns the DequantizeLinear that it reads instead."""
    integers, scale, axis = _integers(graph, node, plan)
    unique = f"{node.input[1]}_of_{node.name}"  # two nodes may share weights
    result.initializer.extend([numpy_helper.from_array(integers, f"{unique}_int8"),
                               numpy_helper.from_array(scale, f"{unique}_scale"),
                               numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{unique}_zero")])
    node.input[1] = f"{unique}_dq"
    return helper.make_node("DequantizeLinear", [f"{unique}_int8", f"{unique}_scale", f"{unique}_zero"],
                            [f"{unique}_dq"], name=f"{unique}_dq", axis=axis)


def _shift_back(graph: FloatGraph, result: onnx.GraphProto, node: onnx.NodeProto,
                shift: npt.NDArray[np.float32]) -> None:
    """Take a shift from a convolution's bias, of its own from here on, as two may share one."""
    bias = graph.array(node.input[2]) if len(node.input) > 2 and node.input[2] else np.float32(0)
    result.initializer.append(numpy_helper.from_array(np.asarray(bias - shift, np.float32), f"{node.name}_bias"))
    del node.input[2:]
    node.input.append(f"{node.name}_bias")


def _activation_pair(result: onnx.GraphProto, name: str, unique: str, grids: Sequence[Grid]) -> list[onnx.NodeProto]:
    """Round a tensor by one grid, or by one for each channel, which is axis 1 as both operators have it by default;
    readers find it as "<unique>_dq"."""
    kind, shape = TensorProto.UINT8 if grids[0].unsigned else TensorProto.INT8, [len(grids)] * (len(grids) > 1)
    scales = np.array([grid.scale for grid in grids], np.float32).reshape(shape)
    result.initializer.extend([numpy_helper.from_array(scales, f"{unique}_scale"),
                               helper.make_tensor(f"{unique}_zero", kind, shape, [grid.zero for grid in grids])])
    return [helper.make_node("QuantizeLinear", [name, f"{unique}_scale", f"{unique}_zero"], [f"{unique}_q"],
                             name=f"{unique}_q"),
            helper.make_node("DequantizeLinear", [f"{unique}_q", f"{unique}_scale", f"{unique}_zero"],
                             [f"{unique}_dq"], name=f"{unique}_dq")]
