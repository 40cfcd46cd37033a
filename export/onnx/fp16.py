"""Float16 arithmetic in an ONNX graph, with casts where float32 begins and ends.

A graph step of our own: strongly typed TensorRT takes its precision from the graph, and the casts must stand where the
network's ranges ask for them. (ONNX Runtime's converter leaves the graph unsorted when nodes are kept in float32.)
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_FLOAT32_INPUTS = {"Resize": {1, 2}}
"""Inputs that the operator's definition ties to float32: a Resize's region and scales."""


def float16_from_float32(model: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """A copy that computes in float16 between its first convolution and its outputs.

    The frame's entry stays in float32: between 128 and 255, float16 has steps of 0.125 grey levels, which would blur
    the mean that is subtracted there.

    Args:
        model: float32 graph, topologically sorted; left as it is. Its inputs and outputs keep their types.
        keep: names of nodes to leave in float32 (those whose values would overflow).

    Raises:
        ValueError: a weight is beyond float16's range (65504).
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    first = next((i for i, node in enumerate(graph.node) if node.op_type == "Conv"), 0)
    kept = set(keep) | {node.name for node in graph.node[:first]}
    types = _types(result)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    half: set[str] = set()  # tensors that exist in float16
    nodes: list[onnx.NodeProto] = []
    casts: dict[tuple[str, int], str] = {}

    def cast(name: str, to: int) -> str:
        if (name, to) not in casts:
            casts[name, to] = f"{name}_as_{'fp16' if to == TensorProto.FLOAT16 else 'fp32'}"
            if name in weights:
                graph.initializer.append(_half(weights[name], casts[name, to]))
            else:
                nodes.append(helper.make_node("Cast", [name], [casts[name, to]], name=casts[name, to], to=to))
        return casts[name, to]

    outputs = {value.name for value in graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    for node in graph.node:
        in_float32 = node.name in kept or node.op_type == "Constant"
        bound = _FLOAT32_INPUTS.get(node.op_type, set())
        for index, name in enumerate(node.input):
            if in_float32 and name in half:
                node.input[index] = cast(name, TensorProto.FLOAT)
            elif not in_float32 and types.get(name) == TensorProto.FLOAT and name not in half and index not in bound:
                node.input[index] = cast(name, TensorProto.FLOAT16)
        nodes.append(node)
        if in_float32:
            continue
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16
        for index, name in enumerate(node.output):
            if types.get(name) != TensorProto.FLOAT:
                continue
            if name in outputs:
                node.output[index] = f"{name}_in_fp16"
                nodes.append(helper.make_node("Cast", [node.output[index]], [name], name=f"{name}_as_fp32",
                                              to=TensorProto.FLOAT))
                casts[name, TensorProto.FLOAT16] = node.output[index]
            else:
                half.add(name)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    left = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
    return onnx.shape_inference.infer_shapes(result)


def _half(tensor: TensorProto, name: str) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise ValueError(f"weight {tensor.name} reaches {np.abs(values).max():.3g}, float16 ends at 65504")
    return numpy_helper.from_array(values.astype(np.float16), name)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return found | {tensor.name: tensor.data_type for tensor in graph.initializer}
