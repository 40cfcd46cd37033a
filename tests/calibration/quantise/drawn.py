"""Small networks with random weights, to be rewritten."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration.quantise.graph import FloatGraph

SIZES = np.float32([1, 30, 0.1, 5, 0.5, 2])
"""Of the channels that the drawn network is given."""

ROWS = SIZES[:, None, None, None]


def network(*middle, **constants):
    """frame → 3×3 convolution "a" of unequal channels → ReLU "x" → the nodes → "y" → 1×1 convolution "z"."""
    rng = np.random.default_rng(0)
    values = {"a": np.abs(rng.normal(size=(6, 3, 3, 3))) * ROWS / 255, "a_bias": rng.normal(size=6) * SIZES,
              "z": rng.normal(size=(4, constants.pop("width", 6), 1, 1)), **constants}
    nodes = [helper.make_node("Transpose", ["frame"], ["t"], perm=[0, 3, 1, 2]),
             helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
             helper.make_node("Conv", ["f", "a", "a_bias"], ["ya"], name="a", pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["ya"], ["x"], name="x"), *middle,
             helper.make_node("Conv", ["y", "z"], ["o"], name="z")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 32, 48, 3])],
                              [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(np.asarray(v, v.dtype if v.dtype == np.int64 else np.float32), k)
                               for k, v in values.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return FloatGraph(onnx.shape_inference.infer_shapes(model))


def node(kind, read, written, **attributes):
    """What it reads, by name; "-" for an input that is left out."""
    return helper.make_node(kind, [name.strip("-") for name in read.split()], [written], name=written, **attributes)
