"""What TensorRT needs of an ONNX graph: rewritten where that changes nothing, refused where it would be wrong."""

from __future__ import annotations

import onnx

from calibration.judge.lint import integer_types
from calibration.quantise.rewrite import cast_before_transpose
from runtime.errors import UserError


def ready_for_tensorrt(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which the uint8 frame is cast before it is transposed, with the shapes of all tensors."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    cast_before_transpose(result.graph)
    del result.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(result)


def check_for_tensorrt(model: onnx.ModelProto) -> None:
    """Refuse what TensorRT would read as something else, or could not read, naming the node and the way out.

    Raises:
        UserError: uint8 or non-zero zero-points, int32 biases, or a GridSample of opset 20 and later.
    """
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    for node in model.graph.node:
        if node.op_type == "GridSample" and opset >= 20:
            raise UserError(f"node {node.name!r} is a GridSample of opset {opset}, which TensorRT computes wrongly "
                            "(NVIDIA/TensorRT#4646)", try_="export the network with opset 16 to 19")
    for finding in integer_types(model):
        raise UserError(f"node {finding}", try_="python -m calibration NAME --data DIR, which writes INT8 that every "
                        "engine reads")
