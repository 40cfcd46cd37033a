"""Graph steps that change how an ONNX graph is written, not what it computes. Each takes a model and returns a copy."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import helper, numpy_helper

from calibration.quantise.rewrite import drop_unused


def global_pool_from_reduce_mean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write a mean over height and width as GlobalAveragePool.

    torch exports global pooling as ReduceMean. ONNX Runtime's blocked-layout optimiser knows only GlobalAveragePool and
    reorders the tensor around anything else; Core ML and TensorRT name it in their layer reports too.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    ranks = _ranks(result)
    for node in result.graph.node:
        if node.op_type != "ReduceMean" or len(node.input) != 2 or node.input[1] not in constants:
            continue
        axes = {int(axis) % 4 for axis in numpy_helper.to_array(constants[node.input[1]]).ravel()}
        keep = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        if axes == {2, 3} and keep and ranks.get(node.input[0]) == 4:
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]
    drop_unused(result.graph)
    return result


def gelu_as_engines_know_it(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write x · (0.5 · (1 + erf(x / √2))) as (x · (1 + erf(x / √2))) · 0.5.

    torch's exporter halves the bracket. ONNX Runtime (1.31) leaves that form as five passes over the tensor, and makes
    one Gelu of the other.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    producer = {name: node for node in result.graph.node for name in node.output}
    used = Counter(name for node in result.graph.node for name in node.input)

    def made_by(name: str, kind: str) -> onnx.NodeProto | None:
        node = producer.get(name)
        return node if node is not None and node.op_type == kind and used[name] == 1 else None

    def operands(node: onnx.NodeProto, kind: str) -> tuple[str, str] | None:
        """Of a node with two inputs, the one that a `kind` makes for it alone, and the other; None for neither."""
        return next(((name, other) for name, other in (node.input, reversed(node.input)) if made_by(name, kind)), None)

    for outer in (node for node in result.graph.node if node.op_type == "Mul"):
        halved = operands(outer, "Mul")
        bracket = operands(producer[halved[0]], "Add") if halved else None
        if halved and bracket and operands(producer[bracket[0]], "Erf"):
            inner, doubled = producer[halved[0]], f"{outer.output[0]}_doubled"
            inner.input[:], inner.output[:] = [halved[1], bracket[0]], [doubled]
            outer.input[:] = [doubled, bracket[1]]
    return result


def prelu_as_maximum(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write PReLU as max(x, slope · x), which it is as long as no slope is above 1.

    ONNX Runtime (1.31) computes PRelu value by value, and the two others by vectors: ESPNetv2 takes 0.7 of its time.
    OpenVINO takes the same for either.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    slopes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type == "PRelu" and node.input[1] in slopes and np.all(slopes[node.input[1]] <= 1):
            (x, slope), (y,), sloped = node.input, node.output, f"{node.output[0]}_sloped"
            nodes += [helper.make_node("Mul", [x, slope], [sloped], name=f"{node.name}_sloped"),
                      helper.make_node("Max", [x, sloped], [y], name=node.name)]
        else:
            nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def without_names_of_the_build(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what differs from build to build and serves nothing at run time: stack traces, paths, doc strings."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.producer_name, result.producer_version = "edgeseg", ""
    result.ClearField("doc_string")
    del result.metadata_props[:], result.graph.metadata_props[:]
    result.graph.name = "edgeseg"
    result.graph.ClearField("doc_string")
    for entry in (*result.graph.node, *result.graph.initializer, *result.graph.value_info,
                  *result.graph.input, *result.graph.output):
        entry.ClearField("doc_string")
        del entry.metadata_props[:]
    return result


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: len(value.type.tensor_type.shape.dim)
            for value in (*graph.value_info, *graph.input, *graph.output)
            if value.type.tensor_type.HasField("shape")}
