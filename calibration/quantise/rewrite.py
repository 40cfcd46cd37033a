"""Steps that rewrite an ONNX graph in place, computing the same; for the quantiser and the exporters after it."""

from __future__ import annotations

from collections import defaultdict

import onnx
from onnx import TensorProto, helper

from calibration.quantise.thresholds import STEPS


def cast_before_transpose(graph: onnx.GraphProto) -> None:
    """Let a uint8 frame become float before it is transposed: TensorRT casts uint8 and does nothing else with it.

    ONNX Runtime is faster the other way round (a quarter of the bytes to move), which is why float artifacts have that.
    """
    frames = {value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
    for node in graph.node:
        readers = [other for other in graph.node if node.output[0] in other.input]
        if node.op_type != "Transpose" or node.input[0] not in frames or [r.op_type for r in readers] != ["Cast"]:
            continue
        transpose, cast = onnx.NodeProto(), onnx.NodeProto()
        transpose.CopyFrom(node)
        cast.CopyFrom(readers[0])
        cast.input[0], transpose.input[0] = transpose.input[0], transpose.output[0]
        cast.output[0], transpose.output[0] = transpose.output[0], cast.output[0]
        node.CopyFrom(cast)  # each takes the other's place, so that the order stays topological
        readers[0].CopyFrom(transpose)
        return


def gates_by_table(graph: onnx.GraphProto) -> None:
    """Let an engine that has no integers for hard-sigmoid, alpha · x + beta between 0 and 1, look it up all the same.

    What reads rounded values is written as the identity (LeakyRelu of slope 1, which ONNX Runtime computes by a table
    of 256 bytes) that is rounded to 255 steps between the two corners; the same bytes are read as 0 to 1. 255 · beta is
    rounded to an integer: for 0.5 the gate is half a step higher. A hard-swish becomes the product with it.
    What nothing reads any more is left to `drop_unused`.
    """
    producer = {name: node for node in graph.node for name in node.output}
    nodes, passed = list[onnx.NodeProto](), dict[str, str]()
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = passed.get(name, name)
        before = producer.get(node.input[0]) if node.op_type in {"HardSwish", "HardSigmoid"} else None
        alpha, beta = _line(node)
        if before is None or before.op_type != "DequantizeLinear" or not (alpha > 0 and 0 <= beta <= 1):
            nodes.append(node)
        elif node.op_type == "HardSigmoid":
            nodes += _looked_up(graph, node.name, node.input[0], node.output[0], alpha, beta)
            passed |= _pairs_after(graph, node.output[0])  # it is rounded already
        else:
            gate = f"{node.name}_gate"
            nodes += _looked_up(graph, node.name, node.input[0], gate, alpha, beta)
            nodes.append(helper.make_node("Mul", [node.input[0], gate], list(node.output), name=node.name))
    del graph.node[:]
    graph.node.extend(nodes)


def _line(node: onnx.NodeProto) -> tuple[float, float]:
    """alpha and beta of a hard-sigmoid, and of the one in a hard-swish."""
    if node.op_type == "HardSwish":
        return 1 / 6, 0.5
    values: dict[str, float] = {"alpha": 0.2, "beta": 0.5} | {a.name: a.f for a in node.attribute}
    return values["alpha"], values["beta"]


def _looked_up(graph: onnx.GraphProto, unique: str, x: str, y: str, alpha: float, beta: float) -> list[onnx.NodeProto]:
    for what, scale, zero in (("corners", 1 / (alpha * STEPS), round(beta * STEPS)), ("gate", 1 / STEPS, 0)):
        graph.initializer.extend([helper.make_tensor(f"{unique}_{what}_scale", TensorProto.FLOAT, [], [scale]),
                                  helper.make_tensor(f"{unique}_{what}_zero", TensorProto.UINT8, [], [zero])])
    return [helper.make_node("LeakyRelu", [x], [f"{unique}_same"], name=f"{unique}_same", alpha=1.0),
            helper.make_node("QuantizeLinear", [f"{unique}_same", f"{unique}_corners_scale", f"{unique}_corners_zero"],
                             [f"{unique}_gate_q"], name=f"{unique}_gate_q"),
            helper.make_node("DequantizeLinear", [f"{unique}_gate_q", f"{unique}_gate_scale", f"{unique}_gate_zero"],
                             [y], name=f"{unique}_gate_dq")]


def _pairs_after(graph: onnx.GraphProto, name: str) -> dict[str, str]:
    """What the pairs on a tensor write → the tensor itself."""
    rounded = {node.output[0] for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == name}
    return {node.output[0]: name for node in graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in rounded}


def relus_of_integers(graph: onnx.GraphProto) -> None:
    """Cut off at the zero-point what an integer operator has written, where only integer operators read the ReLU of it.

    It has the scale of what it was cut from then. Rounding it to a scale of its own would take a pass through floats:
    6 of 30 ms of DFANet A in ONNX Runtime, as each sum is read by a ReLU and by the next sum; pixels kept: the same.
    What nothing reads any more is left to `drop_unused`.
    """
    producer = {name: node for node in graph.node for name in node.output}
    readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    nodes, dropped = list[onnx.NodeProto](), set[str]()
    for node in graph.node:
        before = producer.get(node.input[0]) if node.op_type == "Relu" else None
        after = readers[node.output[0]]
        rounded = before is not None and before.op_type == "DequantizeLinear"
        if before is not None and rounded and [reader.op_type for reader in after] == ["QuantizeLinear"]:
            integers, _, zero = before.input
            for pair in readers[after[0].output[0]]:
                pair.input[1:] = before.input[1:]
            nodes.append(helper.make_node("Clip", [integers, zero], list(after[0].output), name=node.name))
            dropped.add(after[0].name)
        elif node.name not in dropped:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the nodes whose outputs nothing reads, and the initialisers that no node reads."""
    nodes, used = list[onnx.NodeProto](), {value.name for value in graph.output}
    for node in reversed(graph.node):
        if used & set(node.output):
            nodes.append(node)
            used |= set(node.input)
    if len(nodes) < len(graph.node):
        del graph.node[:]
        graph.node.extend(reversed(nodes))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
