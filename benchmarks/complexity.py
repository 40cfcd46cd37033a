"""Parameters, GMAC, GFLOP and activation memory, per layer and in total, beside the published counts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import cli
from runtime.errors import UserError

if TYPE_CHECKING:
    import onnx

    from benchmarks.graph_cost import GraphCost
    from benchmarks.measurement import Measurement
    from export.spec import ModelSpec, Published

CONVENTION = ("GMAC: multiply-accumulates of convolutions and matrix products; GFLOP = 2 x GMAC; other: one operation "
              "per element of elementwise operators, poolings and per tap of interpolations, in 10⁹")

COLUMNS = ("parameters: in the graph, normalisations folded; in MB: weights, activations that all layers write, and "
           "the peak of those alive at the same time")


def graph_of_network(name: str, size: tuple[int, int] | None) -> tuple[onnx.ModelProto, tuple[int, int]]:
    """A named network's graph, as the exporter writes it, with random weights; and its size.

    Args:
        name: a network's name.
        size: input (H, W); None for the one at which its published counts are given.
    """
    import torch

    from export.onnx.exporter import onnx_from_torch
    from export.onnx.graph import global_pool_from_reduce_mean
    from export.onnx.simplify import simplified
    from export.origins import find
    from export.request import request

    size = size or find(name).spec.counted_at
    wanted = request(name, weights="none", size=size)
    for parameter in wanted.network.parameters():
        if parameter.ndim == 1:  # fresh biases are zero, and simplifying would remove them
            torch.nn.init.uniform_(parameter)
    return global_pool_from_reduce_mean(simplified(onnx_from_torch(wanted))), size


@cache
def cost_of_network(name: str, size: tuple[int, int] | None) -> tuple[GraphCost, tuple[int, int]]:
    """What `graph_of_network` costs; once for all of a sweep's files that are no ONNX."""
    from benchmarks.graph_cost import cost_of_graph

    graph, size = graph_of_network(name, size)
    return cost_of_graph(graph), size


def measured(subject: str, size: tuple[int, int] | None) -> tuple[Measurement, GraphCost]:
    """Count a network or an artifact.

    Args:
        subject: a network's name, or the path of an artifact. What is no ONNX file is counted by its network's graph.
        size: input (H, W); None for the artifact's own, or the one of the network's published counts.

    Raises:
        UserError: neither, or a size that the artifact cannot take.
    """
    import onnx

    from benchmarks.graph_cost import cost_of_graph
    from benchmarks.measurement import Measurement, now, row, this_command
    from runtime.artifact import open_artifact

    if not Path(subject).suffix:
        cost, size = cost_of_network(subject, size)
        return Measurement("complexity", subject, "", "fp32", size, "", "", "", values(cost), len(cost.layers), {},
                           this_command(), now(), details=details(cost)), cost
    artifact, engine = open_artifact(subject)
    dynamic = 0 in artifact.input.shape
    if size is not None and not dynamic and size != artifact.preprocess.size:
        raise UserError(f"{engine.name} takes {artifact.preprocess.size[0]}x{artifact.preprocess.size[1]} only",
                        try_=f"python -m benchmarks complexity {artifact.name} --size {size[0]}x{size[1]}")
    if engine.suffix == ".onnx":
        cost = cost_of_graph(onnx.load(engine), (size or artifact.preprocess.size) if dynamic else None)
    else:
        cost, _ = cost_of_network(artifact.name, size or artifact.preprocess.size)
    return row("complexity", artifact, values(cost), samples=len(cost.layers), machine={}, details=details(cost)), cost


def values(cost: GraphCost) -> dict[str, float]:
    """The totals as a row has them; the peak is absent where it is not known."""
    found = {"parameters": cost.parameters, "gmacs": cost.macs / 1e9, "gflops": cost.flops / 1e9,
             "other_gops": cost.other_ops / 1e9, "weights_mb": cost.weight_bytes / 1e6,
             "activations_mb": cost.activation_bytes / 1e6}
    if cost.peak_activation_bytes is not None:
        found["peak_activations_mb"] = cost.peak_activation_bytes / 1e6
    return found


def details(cost: GraphCost) -> dict[str, object]:
    """What a row holds beside the totals: the convention, and what the totals leave out."""
    return {"convention": CONVENTION,
            "uncounted": [f"{layer.name} ({layer.op}): {layer.reason}" for layer in cost.uncounted]}


def table(rows: Sequence[Measurement]) -> str:
    """One line of totals per row, then what others counted for the same networks."""
    head = (f"{'network':26}{'size':>11}{'parameters':>13}{'GMAC':>10}{'GFLOP':>10}{'other':>8}{'weights':>10}"
            f"{'activations':>13}{'peak':>9}")
    notes = [note for name in dict.fromkeys(entry.name for entry in rows) for note in beside(name, rows)]
    return "\n".join([head, *map(_line, rows), "", *notes, CONVENTION, COLUMNS])


def _line(entry: Measurement) -> str:
    v, at_least = entry.values, ">" if entry.details["uncounted"] else ""
    peak = f"{v['peak_activations_mb']:.1f}" if "peak_activations_mb" in v else "unknown"
    return (f"{entry.name:26}{entry.size[0]:>6}x{entry.size[1]:<4}{v['parameters']:>13,.0f}"
            f"{at_least + format(v['gmacs'], '.3f'):>10}{at_least + format(v['gflops'], '.3f'):>10}"
            f"{v['other_gops']:>8.3f}{v['weights_mb']:>10.1f}{v['activations_mb']:>13.1f}{peak:>9}")


def beside(name: str, rows: Sequence[Measurement]) -> list[str]:
    """Lines with our network's count in torch and those that others published, and how much of them was counted here
    where a row is of that size; none for a network that is not ours."""
    from export.origins import find, names

    if name not in names():
        return []
    entry: ModelSpec = find(name).spec
    height, width = entry.counted_at
    conditions = f"{height}x{width}, {len(entry.classes.names)} classes"
    figures = [(f"{entry.parameters / 1e6:.2f} M, {entry.gmacs:.3f} GMAC", conditions, "this network in torch")]
    figures += [(f"{p.value / 1e6:.2f} M" if p.metric == "parameters" else f"{p.value:g} {_unit(p.metric)}",
                 p.conditions, p.source + _share(p, [row for row in rows if row.name == name]))
                for p in entry.published if p.metric.startswith(("parameters", "GMAC", "GFLOP"))]
    return [f"{name:26}{figure:24}{conditions:40}{source}" for figure, conditions, source in figures] + [""]


def _share(figure: Published, rows: Sequence[Measurement]) -> str:
    """What was counted as a share of what was published: articles call multiply-accumulates GFLOPs, too."""
    conditions = figure.conditions.replace("×", "x")
    same = [row for row in rows if conditions.startswith(f"{row.size[0]}x{row.size[1]}")]
    if not same or not figure.metric.startswith(("GMAC", "GFLOP")):
        return ""
    return f"; counted here: {same[0].values['gmacs'] / figure.value:.3f} of it in GMAC"


def _unit(metric: str) -> str:
    return {"parameters (M)": "M"}.get(metric, metric)


def layer_table(cost: GraphCost, count: int) -> str:
    """The `count` layers with the most MACs (0: all, in the order of the graph)."""
    layers = sorted(cost.layers, key=lambda layer: -(layer.macs or 0))[:count] if count else cost.layers
    lines = [f"{'layer':40}{'operator':20}{'output':>20}{'parameters':>12}{'MMAC':>10}{'other M':>10}{'out MB':>8}"]
    for layer in layers:
        macs, other = (("uncounted", "") if layer.macs is None or layer.other_ops is None
                       else (f"{layer.macs / 1e6:.2f}", f"{layer.other_ops / 1e6:.2f}"))
        size = "?" if layer.activation_bytes is None else f"{layer.activation_bytes / 1e6:.2f}"
        lines.append(f"{layer.name[:39]:40}{layer.op:20}{'x'.join(map(str, layer.shape)) or '?':>20}"
                     f"{layer.parameters:>12,}{macs:>10}{other:>10}{size:>8}")
    return "\n".join(lines)


def command(args: argparse.Namespace) -> int:
    """Count, print, and keep the rows where asked."""
    cli.need("counting layers", "export", "onnx")
    from benchmarks.measurement import append
    from export.origins import names

    if bool(args.subjects) == args.all:
        raise UserError(f"{'both --all and' if args.all else 'neither --all nor'} names were received; expected one of "
                        "them", try_="python -m benchmarks complexity --all")
    subjects = names() if args.all else args.subjects
    rows = []
    for subject in cli.progress(subjects, len(subjects), "counting"):
        entry, cost = measured(subject, args.size)
        rows.append(entry)
        if args.layers is not None:
            print(f"{subject}\n{layer_table(cost, args.layers)}\n")
    print(table(rows))
    for entry in rows:
        for line in entry.details["uncounted"]:
            print(f"{entry.name}: NOT COUNTED: {line}")
    if args.rows:
        append(args.rows, rows)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks complexity`."""
    parser = cli.parser("benchmarks complexity", "Count what a network computes, from its ONNX graph.",
                        "python -m benchmarks complexity lraspp out/lraspp-360x480-fp32.onnx --layers 10")
    parser.add_argument("subjects", nargs="*", metavar="NAME|ARTIFACT", help="networks' names or ONNX artifacts")
    parser.add_argument("--all", action="store_true", help="every network of python -m export.models, which takes "
                        "minutes")
    parser.add_argument("--size", type=cli.size, metavar="HxW",
                        help="input size; default: the artifact's, or where the network's counts were published")
    parser.add_argument("--layers", type=cli.natural, metavar="N",
                        help="list the N largest layers; 0 lists all, in order")
    parser.add_argument("--rows", type=Path, metavar="FILE.jsonl", help="add the rows to this file, for the report")
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
