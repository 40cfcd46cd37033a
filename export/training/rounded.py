"""A float ONNX graph as a torch network that rounds in training wherever its INT8 form will be rounded.

What is quantised in the end is the graph: with batch norms folded, channels equalised, ranges chosen. So the graph is
what is trained, and not the module that it once was: every tensor has the same name here and there, and no rule about
which module stands for which tensor is needed.

Rounding: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, §3. Its gradient is that of a clip, the straight-through estimator (Bengio et al., arXiv:1308.3432).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from calibration.quantise.graph import FloatGraph, has_weights
from calibration.quantise.quantize import LARGEST, output_axis, weight_scales
from runtime.errors import UserError

Attributes = Mapping[str, Any]


class _Round(torch.autograd.Function):
    """To the nearest of `low`..`high` times the scale. (On CPUs torch's own fake_quantize is slow.)"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        integers = (x / scale).round_()
        ctx.save_for_backward((integers >= low) & (integers <= high))
        return integers.clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        inside, = ctx.saved_tensors
        return gradients[0] * inside, None, None, None


def rounded(x: Tensor, scale: Tensor, low: int = -128, high: int = 127) -> Tensor:
    """What QuantizeLinear and DequantizeLinear with zero-point 0 make of `x`; gradient 1 within the range, 0 beyond."""
    y: Tensor = _Round.apply(x, scale, low, high)  # type: ignore[no-untyped-call]
    return y


class RoundedGraph(nn.Module):
    """Float RGB frames [N, 3, H, W], 0..255 → float logits [N, C, h, w].

    The weights and biases of convolutions are its parameters.

    Args:
        graph: an artifact's float graph: uint8 [1, H, W, 3] BGR → float32 logits.
        layout: of the logits, "NHWC" or "NCHW".
        scales: tensor → scale of the activations to round; none leaves the graph as it is.
        nodes: names of the nodes whose weights, if any, are rounded, with one scale for each output channel.

    Raises:
        UserError: the graph has an operator that is not among `OPERATORS`, or one used in a way that is not.
    """

    def __init__(self, graph: FloatGraph, layout: str, scales: Mapping[str, float], nodes: Collection[str]) -> None:
        super().__init__()
        self.steps = tuple(graph.graph.node)
        if unknown := {node.op_type for node in self.steps} - OPERATORS.keys():
            raise UserError(f"the graph has {', '.join(sorted(unknown))}, which cannot be trained here; known: "
                            f"{', '.join(OPERATORS)}", try_="--max-drop POINTS, which needs no training")
        self.input, self.output = graph.graph.input[0].name, graph.graph.output[0].name
        self.channels_last = layout == "NHWC"
        self.scales = dict(scales)
        self.nodes = frozenset(nodes)
        learnt = {name for node in self.steps if has_weights(node) for name in node.input[1:]}
        self.weights, self.constants = nn.ParameterDict(), nn.Module()
        for tensor in graph.graph.initializer:
            value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            if tensor.name in learnt:
                self.weights[_key(tensor.name)] = nn.Parameter(value)
            else:
                self.constants.register_buffer(_key(tensor.name), value)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 has 8 bits itself: too few to round to 8 from
            return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        values: dict[str, Tensor] = {self.input: x.flip(1).permute(0, 2, 3, 1)}
        for node in self.steps:
            inputs = [values[name] if name in values else self._stored(node, name) for name in node.input]
            y = OPERATORS[node.op_type](inputs, {a.name: helper.get_attribute_value(a) for a in node.attribute})
            name = node.output[0]
            values[name] = rounded(y, y.new_tensor(self.scales[name])) if name in self.scales else y
        logits = values[self.output]
        return logits.permute(0, 3, 1, 2) if self.channels_last else logits

    def _stored(self, node: onnx.NodeProto, name: str) -> Tensor | None:
        """A constant; rounded where it is the weight of a node that is to be."""
        if not name:
            return None
        if _key(name) not in self.weights:
            constant: Tensor = getattr(self.constants, _key(name))
            return constant
        value: Tensor = self.weights[_key(name)]
        if node.name not in self.nodes or name != node.input[1]:
            return value
        shape = [-1 if axis == output_axis(node) else 1 for axis in range(value.ndim)]
        scale = torch.from_numpy(weight_scales(node, value.detach().cpu().numpy())).to(value.device)
        return rounded(value, scale.reshape(shape), -LARGEST, LARGEST)

    def write_to(self, graph: FloatGraph) -> None:
        """Put the parameters into the graph that they came from, in place."""
        for tensor in list(graph.graph.initializer):
            if _key(tensor.name) in self.weights:
                graph.replace(tensor.name, self.weights[_key(tensor.name)].detach().cpu().contiguous().numpy())


def _key(name: str) -> str:
    """torch allows no dots in a parameter's name."""
    return name.replace(".", "/")


def _convolution(inputs: list[Any], attributes: Attributes) -> Tensor:
    x, weight, bias = (*inputs, None)[:3]
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    stride, dilation = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise UserError(f"a convolution pads by {attributes['auto_pad'].decode()}; expected numbers")
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    if weight.shape[2:] == (1, 1) and not (top or left):
        x, stride = x[:, :, ::stride[0], ::stride[1]], (1, 1)  # see export.training.gradients: oneDNN's backward
    return F.conv2d(x, weight, bias, tuple(stride), (top, left), tuple(dilation), attributes.get("group", 1))


def _resize(inputs: list[Any], attributes: Attributes) -> Tensor:
    x, _, scales, sizes = (*inputs, None, None)[:4]
    how = attributes.get("coordinate_transformation_mode", b"half_pixel")
    if attributes["mode"] != b"linear" or how not in {b"half_pixel", b"pytorch_half_pixel", b"align_corners"}:
        raise UserError(f"a resize is {attributes['mode'].decode()}, {how.decode()}; expected linear, half_pixel or "
                        "align_corners")
    if sizes is None:
        sizes = [math.floor(n * float(s)) for n, s in zip(x.shape, scales)]
    return F.interpolate(x, [int(n) for n in sizes[2:]], mode="bilinear", align_corners=how == b"align_corners")


def _max_pool(inputs: list[Any], attributes: Attributes) -> Tensor:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    x = F.pad(inputs[0], (left, right, top, bottom), value=-np.inf)
    return F.max_pool2d(x, attributes["kernel_shape"], attributes.get("strides", (1, 1)), 0,
                        attributes.get("dilations", (1, 1)), bool(attributes.get("ceil_mode", 0)))


def _cast(inputs: list[Any], attributes: Attributes) -> Tensor:
    if attributes["to"] != TensorProto.FLOAT:
        raise UserError("the graph ends in integers, which have no gradient",
                        try_="python -m export.onnx NAME --output low")
    return inputs[0].float()  # type: ignore[no-any-return]


OPERATORS: dict[str, Callable[[list[Any], Attributes], Tensor]] = {
    "Add": lambda x, a: x[0] + x[1],
    "Cast": _cast,
    "Clip": lambda x, a: torch.clamp(*x),
    "Concat": lambda x, a: torch.cat(x, a["axis"]),
    "Conv": _convolution,
    "GlobalAveragePool": lambda x, a: x[0].mean((2, 3), keepdim=True),
    "HardSigmoid": lambda x, a: (a.get("alpha", 0.2) * x[0] + a.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda x, a: F.hardswish(x[0]),
    "MaxPool": _max_pool,
    "Mul": lambda x, a: x[0] * x[1],
    "Relu": lambda x, a: F.relu(x[0]),
    "Resize": _resize,
    "Sigmoid": lambda x, a: torch.sigmoid(x[0]),
    "Sub": lambda x, a: x[0] - x[1],
    "Transpose": lambda x, a: x[0].permute(a["perm"]),
}
"""By ONNX operator: (inputs, attributes) → output. A batch may be larger than the graph's own."""
