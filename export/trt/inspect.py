"""What is in a TensorRT network or plan, layer by layer, as far as TensorRT reports it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from export.trt.builders import PlanLayer

Row = tuple[str, str, str, str]
"""Layer, kind, precision, kernel."""


def rows_of_network(layers: Sequence[PlanLayer]) -> list[Row]:
    """The network definition's layers. Kernels, and what was fused, are known only where a GPU opens the plan."""
    return [(layer.name, layer.kind, layer.precision, "-") for layer in layers]


def rows_of_engine(information: str) -> list[Row]:
    """The layers of an opened plan.

    Args:
        information: what `EngineInspector.get_engine_information` gives as JSON. Precision is that of a layer's first
            output; TensorRT 10 writes it as "Format/Datatype", TensorRT 11 as "DataType".
    """
    rows = []
    for layer in json.loads(information).get("Layers", []):
        if isinstance(layer, str):  # a plan that was built without detail gives names only
            rows.append((layer, "-", "-", "-"))
            continue
        outputs = layer.get("Outputs") or [{}]
        precision = outputs[0].get("DataType") or outputs[0].get("Format/Datatype") or "-"
        rows.append((layer.get("Name", "-"), layer.get("LayerType", "-"), str(precision),
                     layer.get("TacticName") or "-"))
    return rows


def unfused(rows: Sequence[Row]) -> list[str]:
    """Names of the Q/DQ layers that an opened plan still runs by themselves."""
    return [name for name, kind, _, _ in rows if "quantize" in kind.lower()]


def counts(layers: Sequence[PlanLayer]) -> dict[str, int]:
    """Layers of the network definition by precision, and how many of them quantise: for the JSON."""
    found = Counter(layer.precision.lower() for layer in layers if layer.precision)
    return dict(sorted(found.items())) | {"quantize": sum(layer.kind == "QUANTIZE" for layer in layers),
                                          "dequantize": sum(layer.kind == "DEQUANTIZE" for layer in layers)}


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one line each."""
    shown: list[Any] = [("layer", "kind", "precision", "kernel"), *rows]
    widths = [min(max(len(row[i]) for row in shown), limit) for i, limit in enumerate((48, 20, 28, 60))]
    return "\n".join("  ".join(cell[:width].ljust(width) for cell, width in zip(row, widths)).rstrip()
                     for row in shown)
