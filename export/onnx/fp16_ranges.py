"""Which nodes of a graph must stay in float32, measured on frames before a float16 graph is written.

float16 ends at 65504. A value may pass it in three places: in a tensor, in a weight, and in a sum on the way to a
result that would itself fit (a global mean over 2048 cells, a convolution over 960 channels), where an engine
accumulates in float16. All three are measured by running the float32 graph with probes. Running the float16 graph
would not show it on a CPU: ONNX Runtime has no float16 kernels there and stays in float32 from node to node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.onnx.fp16 import float16_from_float32
from runtime.preprocess import Frame
from runtime.sessions.onnx import library

LARGEST = 65504.0
"""float16's largest finite value."""

SHARE = 0.25
"""How much of it the frames at hand may use: the frames to come get a factor of four."""

MAX_FRAMES = 4
"""Frames that are run with probes, which takes about five times as long as without."""

_MEANS = {"GlobalAveragePool", "ReduceMean"}
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@dataclass(frozen=True)
class Sensitive:
    """A node that float16 would endanger.

    Attributes:
        name: the node's name.
        op: its operator.
        why: "input", "output", "weight" or "sum".
        largest: the largest magnitude that was met there.
    """

    name: str
    op: str
    why: str
    largest: float


def with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own, as `float16_from_float32` needs to keep single nodes."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    seen: set[str] = set()
    for index, node in enumerate(result.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)
    return result


def sensitive_nodes(model: onnx.ModelProto, frames: Iterable[Frame], *, share: float = SHARE) -> list[Sensitive]:
    """Run a float32 graph and name the nodes whose values float16 could not hold.

    Args:
        model: float32 graph whose nodes have names of their own (`with_names`); left as it is.
        frames: uint8 [1, H, W, 3] BGR at the graph's input size.
        share: how much of float16's range these frames may use.

    Returns:
        One entry per node and reason, in graph order; empty when float16 holds everything.
    """
    probed, probes = _probed(model)
    largest = _measured(probed, list(probes), frames) if probes else {}
    found: list[Sensitive] = []
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    for node in model.graph.node:
        values = {"input": _max(largest.get(_probe(name), 0.0) for name in node.input),
                  "output": _max(largest.get(_probe(name), 0.0) for name in node.output),
                  "weight": _max(np.abs(weights[name]).max(initial=0) for name in node.input if name in weights),
                  "sum": largest.get(_sum(node.name), 0.0)}
        for why, value in values.items():
            if not value <= share * LARGEST:  # a NaN is no value that float16 could hold either
                found.append(Sensitive(node.name, node.op_type, why, value))
                break
    return found


def float16_where_safe(model: onnx.ModelProto, frames: Sequence[Frame]) -> tuple[onnx.ModelProto, list[Sensitive]]:
    """A copy that computes in float16 except where these frames show that float16 would not hold.

    Args:
        model: float32 graph; left as it is.
        frames: uint8 [1, H, W, 3] BGR at its input size; at most `MAX_FRAMES` of them, evenly spread, are run.

    Returns:
        The copy, and the nodes that stayed in float32.
    """
    named = with_names(model)
    step = max(-(-len(frames) // MAX_FRAMES), 1)
    found = sensitive_nodes(named, frames[::step])
    return float16_from_float32(named, {node.name for node in found}), found


def describe(found: list[Sensitive]) -> str:
    """One line for people."""
    if not found:
        return f"float16 ranges: every value stays below {SHARE:.0%} of 65504; no layer is kept in float32"
    listed = ", ".join(f"{s.name} ({s.op}: {s.why} {s.largest:.3g})" for s in found[:4])
    return f"float16 ranges: {len(found)} nodes kept in float32: {listed}{', …' if len(found) > 4 else ''}"


def _max(values: Iterable[float]) -> float:
    """The largest, or NaN when one is (Python's `max` would lose it)."""
    return float(np.max([0.0, *values]))


def _probe(tensor: str) -> str:
    return f"{tensor}__largest"


def _sum(node: str) -> str:
    return f"{node}__sum"


def _probed(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """A copy whose outputs are scalars: the largest magnitude of every float tensor and of every sum's terms."""
    result = onnx.shape_inference.infer_shapes(model)
    graph = result.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    weights = {t.name: t for t in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    probes: list[str] = []

    def largest_of(tensor: str, name: str) -> None:
        nodes.append(helper.make_node("Abs", [tensor], [f"{name}_abs"]))
        nodes.append(helper.make_node("ReduceMax", [f"{name}_abs"], [name], keepdims=0))
        probes.append(name)

    for node in graph.node:
        for tensor in node.output:
            if types.get(tensor) == TensorProto.FLOAT:
                largest_of(tensor, _probe(tensor))
        if node.op_type in _MEANS | _PRODUCTS and types.get(node.output[0]) == TensorProto.FLOAT:
            nodes.extend(_magnitudes(node, weights, graph))
            largest_of(f"{node.name}__terms", _sum(node.name))
    graph.node.extend(nodes)
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in probes)
    return result, probes


def _magnitudes(node: onnx.NodeProto, weights: dict[str, TensorProto],
                graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that repeat a mean or product on magnitudes: what its partial sums can reach in any order of adding."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name, copy.output[0] = f"{node.name}__magnitudes", f"{node.name}__terms"
    made: list[onnx.NodeProto] = []
    parameters = 1 if node.op_type in _MEANS else len(node.input)
    for index in range(parameters):
        name = node.input[index]
        copy.input[index] = f"{node.name}__abs_{index}"
        if name in weights:
            graph.initializer.append(numpy_helper.from_array(np.abs(numpy_helper.to_array(weights[name])),
                                                             copy.input[index]))
        else:
            made.append(helper.make_node("Abs", [name], [copy.input[index]]))
    if node.op_type not in _MEANS:
        return [*made, copy]
    # mean(|x|) · count, where count = size before ÷ size after
    mean, term = f"{node.name}__mean", f"{node.name}__terms"
    copy.output[0] = mean
    made.append(copy)
    sizes = [f"{node.name}__size_{i}" for i in (0, 1)]
    made += [helper.make_node("Size", [source], [f"{size}_int"]) for source, size in zip((node.input[0], mean), sizes)]
    made += [helper.make_node("Cast", [f"{size}_int"], [size], to=TensorProto.FLOAT) for size in sizes]
    return [*made, helper.make_node("Div", sizes, [f"{node.name}__count"]),
            helper.make_node("Mul", [mean, f"{node.name}__count"], [term])]


def _measured(model: onnx.ModelProto, probes: list[str], frames: Iterable[Frame]) -> dict[str, float]:
    run: Callable[[Frame], list[npt.NDArray[np.float32]]] = _session(model)
    largest = dict.fromkeys(probes, 0.0)
    for frame in frames:
        for name, value in zip(probes, run(frame)):
            largest[name] = float(np.maximum(largest[name], value))  # NaN wins
    return largest


def _session(model: onnx.ModelProto) -> Callable[[Frame], list[npt.NDArray[np.float32]]]:
    ort = library()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # ORT_ENABLE_ALL would fuse the tensors away that are to be measured
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda frame: list(session.run(None, {session.get_inputs()[0].name: frame}))
