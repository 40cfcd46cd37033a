"""What TensorRT needs of an ONNX graph: rewritten where that changes nothing, refused where it would be wrong."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

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
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    quantise = "python -m calibration NAME --data DIR, which writes INT8 that every engine reads"
    for node in model.graph.node:
        if node.op_type == "GridSample" and opset >= 20:
            raise UserError(f"node {node.name!r} is a GridSample of opset {opset}, which TensorRT computes wrongly "
                            "(NVIDIA/TensorRT#4646)", try_="export the network with opset 16 to 19")
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        data = constants.get(node.input[0])
        if data is not None and data.data_type == TensorProto.INT32:
            raise UserError(f"node {node.name!r} dequantises an int32 bias, which TensorRT cannot read; expected a "
                            "float bias", try_=quantise)
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None and zero.data_type != TensorProto.INT8:
            kind = TensorProto.DataType.Name(zero.data_type).lower()
            raise UserError(f"node {node.name!r} has a {kind} zero-point, which TensorRT reads as int8; expected "
                            "symmetric int8", try_=quantise)
        if zero is not None and np.any(numpy_helper.to_array(zero)):
            raise UserError(f"node {node.name!r} has a zero-point other than 0, which TensorRT cannot read; expected "
                            "symmetric int8", try_=quantise)


def quantised(model: onnx.ModelProto) -> bool:
    """Whether the graph holds INT8 in the form of Q/DQ nodes."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)
