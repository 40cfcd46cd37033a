"""The layers of an ONNX file, timed by the engines that keep the names of its nodes or tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from export.layers import BEFORE, TimedLayer

if TYPE_CHECKING:
    import onnx

    from calibration.judge.costs import Kernel
    from calibration.quantise.graph import FloatGraph


def timed(path: Path, kernels: Sequence[Kernel]) -> list[TimedLayer]:
    """What comes before the first layer, then all layers in the order of the file, which is torch's.

    Args:
        path: a float32 file of fixed size.
        kernels: in the order in which they ran. One whose name says nothing of the file, as an engine's own change of
            layout, counts for what ran before it.

    Raises:
        UserError: the file is quantised, float16 or of any size.
    """
    import onnx

    from calibration.judge.costs import led_back
    from calibration.quantise.graph import FloatGraph

    graph = FloatGraph(onnx.load(path))
    spent, last = defaultdict[str, float](float), BEFORE
    for head, (_, ms) in zip(led_back(graph, kernels, _heads(graph)), kernels):
        last = head or last
        spent[last] += ms
    return [TimedLayer(BEFORE, BEFORE, (0, 0), (), spent[BEFORE]),
            *(_layer(graph, graph.nodes[layer.node], layer.name, spent[layer.node])
              for layer in graph.layers if layer.macs)]


def _heads(graph: FloatGraph) -> dict[str, str]:
    """Node → the last layer that stands before it in the file; nodes before the first are left out."""
    heads, last = dict[str, str](), ""
    for node in graph.graph.node:
        layer = graph.by_node.get(node.name)
        last = node.name if layer is not None and layer.macs else last
        if last:
            heads[node.name] = last
    return heads


def _layer(graph: FloatGraph, node: onnx.NodeProto, name: str, ms: float) -> TimedLayer:
    read, written = graph.shapes[node.input[0]], graph.shapes[node.output[0]]
    if node.op_type != "Conv":
        return TimedLayer(name, "product", (read[-1], written[-1]), (prod(written[:-1]),), ms)
    weight = graph.array(node.input[1]).shape
    kernel = "x".join(map(str, weight[2:]))
    depthwise = weight[1] == 1 and weight[0] > 1
    return TimedLayer(name, f"{kernel} depthwise" if depthwise else kernel, (read[1], written[1]), written[2:], ms)
