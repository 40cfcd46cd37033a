"""Which layer loses how much: each one quantised alone, and each one alone left in float."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

from calibration.judge.engines import Simulated
from calibration.judge.measure import HeldOut, Judge
from calibration.quantise.graph import ACTIVATIONS, FloatGraph, Layer
from calibration.quantise.quantize import Plan, int8_from_float
from calibration.quantise.thresholds import Range
from runtime import decode
from runtime.artifact import Artifact
from runtime.cli import progress
from runtime.cluster import mapped
from runtime.errors import UserError
from runtime.files import write_text
from runtime.parcel import Parcel
from runtime.sessions.onnx import OnnxSession

FRAMES = 8
"""That judge each layer alone."""


@dataclass(frozen=True)
class Sensitivity:
    """One layer's share in the loss, in simulation.

    Attributes:
        layer: which.
        alone: % of pixels that change class when this layer alone is INT8.
        alone_drop: the same in `unit`s of the judge (points of mIoU where there are labels).
        spared: % of pixels that change class when all layers but this one are INT8; None for activation functions,
            which stand between integers as long as their neighbours are INT8.
        spared_drop: the same in the judge's unit.
    """

    layer: Layer
    alone: float
    alone_drop: float
    spared: float | None
    spared_drop: float | None


@dataclass(frozen=True)
class Report:
    """The sensitivities of a network.

    Attributes:
        unit: of the drops.
        frames: how many frames judged.
        changed: % of pixels that change class when everything is INT8.
        drop: the same in `unit`.
        rows: by layer, in graph order.
    """

    unit: str
    frames: int
    changed: float
    drop: float
    rows: tuple[Sensitivity, ...]


@dataclass(frozen=True)
class Quantised:
    """What every judge of a layer needs to have.

    Attributes:
        graph: the float graph.
        thresholds: of its activations.
        plan: what is INT8 when nothing is spared, with its roundings.
        artifact, engine: the float network that it is compared with.
        held_out: few frames: the graph is built and run twice for each layer.
    """

    graph: FloatGraph
    thresholds: Mapping[str, Range]
    plan: Plan
    artifact: Artifact
    engine: Path | Parcel
    held_out: HeldOut


Loss = tuple[float, float]
"""% of pixels that change class, and the same in the judge's unit."""


def measure(quantised: Quantised, cache: Path, ray: str | None = None) -> Report:
    """Measure every layer with weights, and every activation function.

    Args:
        quantised: the network and the frames.
        cache: a file for finished rows; an interrupted run continues from there. Its name must hold a fingerprint of
            everything above.
        ray: the cluster to measure on; the report is the same to the last digit.
    """
    graph, plan = quantised.graph, quantised.plan
    done = _load(cache)
    wanted = [layer for layer in graph.layers
              if (layer.node in plan.nodes and layer.macs) or layer.op in ACTIVATIONS]
    left = [layer for layer in wanted if layer.node not in done]
    tasks: list[tuple[frozenset[str], ...]] = [(plan.nodes,)]
    tasks += [(frozenset({layer.node}), *([plan.nodes - {layer.node}] if layer.macs else [])) for layer in left]
    losses = mapped(ray, partial(_losses, quantised), tasks)
    ((changed, drop), unit), = next(losses)
    for layer, found in zip(left, progress(losses, len(left), "sensitivity")):
        done[layer.node] = [*found[0][0], *(found[1][0] if layer.macs else (None, None))]
        _save(cache, done)
    rows = [Sensitivity(layer, *done[layer.node]) for layer in wanted]  # type: ignore[arg-type]
    return Report(unit, len(quantised.held_out.names), changed, drop, tuple(rows))


def _losses(quantised: Quantised) -> Callable[[tuple[frozenset[str], ...]], list[tuple[Loss, str]]]:
    """A function from sets of nodes to what is lost, and its unit, when each set alone is INT8."""
    q = quantised
    engine = q.engine.unpacked() if isinstance(q.engine, Parcel) else q.engine
    judge = Judge(q.artifact, OnnxSession(engine), q.held_out)

    def loss(nodes: frozenset[str]) -> tuple[Loss, str]:
        score = judge.score(Simulated(int8_from_float(q.graph, q.thresholds, dataclasses.replace(q.plan, nodes=nodes))))
        return (100 * float(1 - score.agreement.mean()), judge.drop(score)), judge.unit

    return lambda sets: [loss(nodes) for nodes in sets]


def to_json(report: Report) -> str:
    """The report for programs."""
    return json.dumps(dataclasses.asdict(report), indent=2) + "\n"


def table(report: Report, worst: int = 20) -> str:
    """The layers that lose most when quantised alone, as text."""
    rows = sorted(report.rows, key=lambda row: -row.alone)[:worst]
    labelled = "mIoU" in report.unit

    def columns(changed: float | None, drop: float | None) -> str:
        if changed is None or drop is None:
            return ""
        return f"{changed:>10.2f}" + (f"{round(drop, 2) + 0.0:>+8.2f}" if labelled else "")

    points = f"{'points':>8}" if labelled else ""
    lines = [
        (f"{report.changed:.2f} % of pixels change class when all layers are INT8 ({report.drop:+.2f} {report.unit}, "
         f"{report.frames} frames); when one alone is INT8, or is spared:"),
        f"{'layer':<42}{'role':<18}{'MMAC':>7}{'alone %':>10}{points}{'spared %':>10}{points}",
    ]
    lines += [f"{row.layer.name[:41]:<42}{row.layer.role:<18}{row.layer.macs / 1e6:>7.1f}"
              f"{columns(row.alone, row.alone_drop)}{columns(row.spared, row.spared_drop)}" for row in rows]
    return "\n".join(lines)


def plot(report: Report) -> str:
    """The same as an SVG picture: one bar per layer, in graph order, coloured by role."""
    roles = list(dict.fromkeys(row.layer.role for row in report.rows))
    colours = {role: f"hsl({360 * i // max(len(roles), 1)},60%,45%)" for i, role in enumerate(roles)}
    top = max((row.alone for row in report.rows), default=0) or 1
    height = 16 * len(report.rows) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="900" height="{height}">',
        '<style>text {font: 11px sans-serif}</style>',
        '<rect width="100%" height="100%" fill="white"/>',
        ('<text x="8" y="16" style="font-size:13px">% of pixels that change class when this layer alone is INT8 '
         f'({report.frames} frames; {report.changed:.2f} when all layers are)</text>'),
    ]
    for i, row in enumerate(report.rows):
        y, width = 28 + 16 * i, 420 * row.alone / top
        parts.append(f'<text x="310" y="{y + 10}" text-anchor="end">{escape(row.layer.name[:52])}</text>'
                     f'<rect x="316" y="{y}" width="{width:.1f}" height="12" fill="{colours[row.layer.role]}"/>'
                     f'<text x="{320 + width:.1f}" y="{y + 10}">{row.alone:.2f} {escape(row.layer.role)}</text>')
    return "".join(parts) + "</svg>\n"


def _load(cache: Path) -> dict[str, Sequence[float | None]]:
    if not cache.is_file():
        return {}
    try:
        return dict(decode.decoded(dict[str, list[float | None]], decode.parsed(decode.read(cache))))
    except ValueError as error:
        raise UserError(f"{cache} cannot be read ({error})", try_=f"rm {cache}, and run the command again") from error


def _save(cache: Path, done: Mapping[str, Sequence[float | None]]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_text(cache, json.dumps(done))
