"""The layers of a .tflite file, timed by LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.layers import BEFORE, TimedLayer
from export.litert.tensors import paths
from runtime.sessions.litert import PRODUCTS, bare_interpreter

if TYPE_CHECKING:
    from calibration.judge.costs import Kernel


def timed(path: Path, kernels: Sequence[Kernel]) -> list[TimedLayer]:
    """What comes before the first layer, then all layers in the order of the file, which is torch's.

    Args:
        path: the file.
        kernels: one for the input, and one for each operator of `PRODUCTS`, by the names of their tensors.
    """
    interpreter = bare_interpreter(path)
    tensors = {entry["index"]: entry for entry in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    computed = {int(index) for op in operators for index in op["outputs"] if op["op_name"] != "DEQUANTIZE"}
    spent = {name: ms for names, ms in kernels for name in names}
    found = [TimedLayer(BEFORE, BEFORE, (0, 0), (), spent.get(interpreter.get_input_details()[0]["name"], 0.0))]
    for op in (op for op in operators if op["op_name"] in PRODUCTS):
        x, weight, y = (tensors[index] for index in (*op["inputs"][:2], op["outputs"][0]))
        ms = spent.get(y["name"], 0.0)
        if weight["index"] in computed:  # a product of two activations is no layer
            found[-1] = replace(found[-1], ms=found[-1].ms + ms)
        else:
            found.append(_layer(op["op_name"], x, weight, y, ms))
    return found


def _layer(operator: str, x: Any, weight: Any, y: Any, ms: float) -> TimedLayer:
    """Filters are [out, height, width, in], or [1, height, width, channels] of a depthwise convolution."""
    shape, written = weight["shape"], tuple(map(int, y["shape"]))
    channels = int(x["shape"][-1]), written[-1]
    name = _module(y["name"])
    if len(shape) != 4:
        return TimedLayer(name, "product", channels, (prod(written[:-1]),), ms)
    kernel = f"{shape[1]}x{shape[2]}" + (" depthwise" if operator == "DEPTHWISE_CONV_2D" else "")
    return TimedLayer(name, kernel, channels, written[1:3], ms)


def _module(tensor: str) -> str:
    """The module that made a tensor: the last that the converter names, as what it has fused comes before; "" for the
    graph's result, which has a name of its own."""
    named = [found for part in tensor.split(";") if (found := paths(part))]
    return named[-1][0].removeprefix("network.") if named else ""
