"""Which layers to keep in float so that the loss stays within a budget, at the fewest multiply-accumulates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from calibration.judge.engines import Simulated
from calibration.judge.measure import Judge
from calibration.quantise.graph import FloatGraph, Layer
from calibration.quantise.quantize import Plan, int8_from_float
from calibration.quantise.thresholds import Range
from runtime.cli import progress
from runtime.errors import GateFailed


@dataclass(frozen=True)
class Kept:
    """A layer left in float, and why."""

    layer: Layer
    reason: str


def within_budget(graph: FloatGraph, thresholds: Mapping[str, Range], plan: Plan, judge: Judge, budget: float,
                  say: Callable[[str], None]) -> tuple[Plan, tuple[Kept, ...]]:
    """Search for a plan whose loss, in simulation, is at most `budget`.

    Greedy there and back. Layers are ranked by what sparing each alone wins back for every multiply-accumulate it
    costs; they are put into float in this order until the budget holds (found by bisection), then each is put back
    into INT8, the costliest first, where the budget still holds without it.

    Args:
        graph: the float graph.
        thresholds: of its activations.
        plan: the start: everything that may be INT8.
        judge: frames with labels, or without.
        budget: in the judge's unit: points of mIoU, or % of pixels.
        say: receives one line per stage.

    Raises:
        GateFailed: not even with all layers in float that win anything back.
    """
    def loss(kept: Iterable[str]) -> float:
        nodes = plan.nodes - frozenset(kept)
        return judge.drop(judge.score(Simulated(int8_from_float(
            graph, thresholds, dataclasses.replace(plan, nodes=nodes)))))

    everything = loss(())
    say(f"all layers in INT8: {everything:+.2f} {judge.unit} ({len(judge.exam.names)} frames)")
    if everything <= budget:
        return plan, ()
    candidates = [layer for layer in graph.layers if layer.node in plan.nodes and layer.macs]
    gains = {layer.node: everything - loss((layer.node,))
             for layer in progress(candidates, len(candidates), "what each layer costs")}
    order = ranked(candidates, gains)
    kept = _fewest(order, lambda layers: loss(layer.node for layer in layers) <= budget)
    if kept is None:
        raise GateFailed(f"INT8 loses {everything:.2f} {judge.unit}, and no choice of float layers brings that under "
                         f"{budget}; nothing was written", try_="--method, --improve, or --qat EPOCHS")
    kept = pruned(kept, lambda layers: loss(layer.node for layer in layers) <= budget)
    say(f"{len(kept)} layers kept in float: {loss(layer.node for layer in kept):+.2f} {judge.unit}")
    reasons = tuple(Kept(layer, f"in INT8 it costs {gains[layer.node]:.2f} {judge.unit} ({layer.role})")
                    for layer in kept)
    return dataclasses.replace(plan, nodes=plan.nodes - {layer.node for layer in kept}), reasons


def ranked(layers: Iterable[Layer], gains: Mapping[str, float]) -> list[Layer]:
    """The layers that win something back when spared, the most per multiply-accumulate first."""
    return sorted((layer for layer in layers if gains[layer.node] > 0),
                  key=lambda layer: -gains[layer.node] / layer.macs)


def _fewest(order: list[Layer], holds: Callable[[list[Layer]], bool]) -> list[Layer] | None:
    """The shortest beginning of `order` that holds, by bisection; None when not even all of it does."""
    if not holds(order):
        return None
    low, high = 0, len(order)  # `low` layers do not suffice, `high` do
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(order[:middle]) else (middle, high)
    return order[:high]


def pruned(kept: list[Layer], holds: Callable[[list[Layer]], bool]) -> list[Layer]:
    """Put layers back into INT8, the costliest first, wherever the budget still holds without them."""
    for layer in sorted(kept, key=lambda layer: -layer.macs):
        without = [other for other in kept if other is not layer]
        if holds(without):
            kept = without
    return kept


def int8_share(graph: FloatGraph, plan: Plan) -> float:
    """Share of all multiply-accumulates that the plan computes in INT8, 0..1."""
    total = sum(layer.macs for layer in graph.layers)
    return sum(layer.macs for layer in graph.layers if layer.node in plan.nodes) / total
