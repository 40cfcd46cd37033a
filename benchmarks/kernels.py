"""Which kernel of ONNX Runtime takes how long, and how much it computes and moves.

The engine fuses, renames and pads the graph's layers. Each kernel is led back to the layer whose product it computes,
so that padding counts as no work; what cannot be led back is counted by the shapes that the kernel saw, and marked.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from math import prod
from typing import Any

from benchmarks.counting import RULES, CountedLayer, Shape

PRODUCTS = ("Conv", "FusedConv", "QLinearConv", "ConvInteger", "ConvTranspose", "Gemm", "FusedGemm", "MatMul",
            "FusedMatMul", "QLinearMatMul", "MatMulInteger", "QGemm")
_BYTES = {"float": 4, "float16": 2, "double": 8, "uint8": 1, "int8": 1, "bool": 1, "int32": 4, "uint32": 4, "int64": 8}


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
        name: as the engine calls it.
        op: its operator.
        kind: "depthwise", "1x1", "KxK" (convolutions), "product", "reorder" or "other".
        ms: median over the runs.
        flops: 2 x MACs of the layer that it computes; 0 where it is no product.
        bytes: of everything that it reads and writes, weights included.
        shape: of its first output.
        by_shape: whether the MACs are counted by what the kernel saw, padding included.
    """

    name: str
    op: str
    kind: str
    ms: float
    flops: int
    bytes: int
    shape: Shape
    by_shape: bool

    @property
    def gflops(self) -> float:
        """10⁹ operations per second that it attained."""
        return self.flops / self.ms / 1e6 if self.ms else 0.0

    @property
    def gbytes(self) -> float:
        """10⁹ bytes per second that it attained."""
        return self.bytes / self.ms / 1e6 if self.ms else 0.0


def kernels_from_events(events: list[dict[str, Any]], layers: tuple[CountedLayer, ...]) -> list[Kernel]:
    """One Kernel per name, in the order of the run.

    Args:
        events: as `profile` returns them.
        layers: of the graph that was run, as `graph_cost` counts them.
    """
    grouped: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        grouped[event["name"].removesuffix("_kernel_time")].append(event)
    origins = _Origins(layers)
    named = [origins.claim_by_name(name) for name in grouped]
    return [_kernel(name, group, layer or origins.claim_upstream(name, group[0]["args"]["op_name"]))
            for (name, group), layer in zip(grouped.items(), named)]


def _kernel(name: str, events: list[dict[str, Any]], layer: CountedLayer | None) -> Kernel:
    values = events[0]["args"]
    op = values["op_name"]
    inputs, outputs = _tensors(values["input_type_shape"]), _tensors(values["output_type_shape"])
    shapes = [shape for _, shape in inputs]
    macs = 0
    if op in PRODUCTS:
        macs = layer.macs if layer and layer.macs is not None else _macs_by_shape(op, shapes, outputs[0][1])
    return Kernel(name, op, _kind(op, shapes), statistics.median(event["dur"] for event in events) / 1e3, 2 * macs,
                  sum(_BYTES.get(kind, 4) * prod(shape) for kind, shape in (*inputs, *outputs)),
                  outputs[0][1] if outputs else (), op in PRODUCTS and layer is None)


def _tensors(entries: list[dict[str, list[int]]]) -> list[tuple[str, Shape]]:
    return [(kind, tuple(shape)) for entry in entries for kind, shape in entry.items()]


def _macs_by_shape(op: str, inputs: list[Shape], output: Shape) -> int:
    if op in RULES and op != "Gemm":
        return RULES[op](None, inputs, [output])[0]  # type: ignore[arg-type]  # products need no attributes
    return prod(output) * inputs[0][-1]


def _kind(op: str, inputs: list[Shape]) -> str:
    if op.startswith("Reorder"):
        return "reorder"
    if op not in PRODUCTS:
        return "other"
    weight = inputs[3] if op.startswith("QLinearConv") else inputs[1]
    if "Conv" not in op or len(weight) != 4:
        return "product"
    if weight[1] == 1 and weight[0] > 1:
        return "depthwise"
    return "1x1" if weight[2:] == (1, 1) else "KxK"


class _Origins:
    """Finds the layer that a kernel computes. Each layer is claimed once."""

    def __init__(self, layers: tuple[CountedLayer, ...]) -> None:
        self._by_name = {layer.name: layer for layer in layers}
        self._by_output = {layer.output: layer for layer in layers}
        self._claimed: set[str] = set()

    def claim_by_name(self, name: str) -> CountedLayer | None:
        """A product that bears the kernel's name or writes the tensor of that name."""
        layer = self._find(name)
        return self._claim(layer) if layer and layer.macs else None

    def claim_upstream(self, name: str, op: str) -> CountedLayer | None:
        """The nearest unclaimed product above the layer of that name: the kernel has absorbed what lies between."""
        layer = self._find(name)
        queue = [layer] if layer and op in PRODUCTS else []
        for candidate in queue:
            if candidate.macs:
                if candidate.name not in self._claimed:
                    return self._claim(candidate)
                continue
            queue += [self._by_output[x] for x in candidate.inputs if x in self._by_output and len(queue) < 64]
        return None

    def _find(self, name: str) -> CountedLayer | None:
        plain = name.removeprefix("InsertedPrecisionFreeCast_").removesuffix("_nchwc")  # float16, computed in float32
        return self._by_name.get(plain) or self._by_output.get(plain)

    def _claim(self, layer: CountedLayer) -> CountedLayer | None:
        if layer.name in self._claimed:
            return None
        self._claimed.add(layer.name)
        return layer
