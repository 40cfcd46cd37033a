"""Steps that rewrite an ONNX graph in place, computing the same; for the quantiser and the exporters after it."""

from __future__ import annotations

import onnx
from onnx import TensorProto


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


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove the initialisers that no node reads."""
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
