"""Which layers to keep in float: the fastest plan within a loss, or the most faithful one within a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from calibration.quantise.graph import FloatGraph, Layer
from calibration.quantise.quantize import Plan
from runtime.cli import progress
from runtime.errors import GateFailed

Holds = Callable[[list[Layer]], bool]


@dataclass(frozen=True)
class FloatLayer:
    """A layer left in float, and what that buys."""

    layer: Layer
    reason: str


@dataclass(frozen=True)
class Trial:
    """How plans are tried.

    Attributes:
        loss: of a plan, given the nodes that it keeps in float; in `unit`.
        price: node → what keeping it in float costs: milliseconds in an engine, below 0 where float is faster there;
            or multiply-accumulates where no engine is named.
        ms: time of a plan in the engine; None where no engine is named.
        unit: points of mIoU, or % of pixels.
        frames: how many judge the loss.
    """

    loss: Callable[[frozenset[str]], float]
    price: Mapping[str, float]
    ms: Callable[[frozenset[str]], float] | None
    unit: str
    frames: int


def searched(layers: Sequence[Layer], trial: Trial, max_drop: float | None, max_ms: float | None,
             say: Callable[[str], None]) -> tuple[FloatLayer, ...]:
    """The layers to keep in float.

    Those that are faster in float stay there. The others are ranked by what sparing each alone wins back for its price,
    and are put into float in this order until `max_drop` holds (found by bisection); each is then put back into INT8,
    the dearest first, where the loss allows it. Without `max_drop`, as many as `max_ms` leaves time for.

    Args:
        layers: that may be kept.
        trial: see there; `ms` is needed for `max_ms`.
        max_drop: what may be lost.
        max_ms: how long a frame may take in the engine.
        say: receives one line per stage.

    Raises:
        GateFailed: no choice of float layers holds what is asked, or it leaves nothing in INT8.
    """
    faster = [layer for layer in layers if trial.price[layer.node] < 0]
    everything = trial.loss(_nodes(faster))
    spared = f", {len(faster)} layers in float because that is faster" if faster else ""
    say(f"all layers in INT8{spared}: {everything:+.2f} {trial.unit} ({trial.frames} frames)")
    kept, gains = faster, dict[str, float]()
    if max_drop is None or everything > max_drop:
        rest = [layer for layer in layers if layer not in faster]
        gains = {layer.node: everything - trial.loss(_nodes([*faster, layer]))
                 for layer in progress(rest, len(rest), "what each layer costs")}
        order = ranked(rest, gains, trial.price)
        kept = faster + (_within_drop(order, faster, trial, max_drop, everything) if max_drop is not None
                         else _within_ms(order, faster, trial, max_ms))
        say(f"{len(kept)} layers kept in float: {trial.loss(_nodes(kept)):+.2f} {trial.unit}")
    if len(kept) == len(layers):
        why = ("is faster in float in this engine on this machine" if kept == faster else
               "had to stay in float" if max_drop is not None else f"may stay in float within {max_ms:g} ms")
        raise GateFailed(f"each of the {len(layers)} layers {why}; nothing was written", try_="the float file here, or "
                         "the same without --engine and --max-ms, which makes INT8 for any machine")
    if max_ms is not None and trial.ms is not None and (ms := trial.ms(_nodes(kept))) > max_ms:
        raise GateFailed(f"a frame takes {ms:.2f} ms with {len(kept)} layers in float, {max_ms:g} are allowed; nothing "
                         "was written", try_=f"--max-ms {ms * 1.1:.2g}" + (", or a larger --max-drop" if gains else ""))
    return tuple(FloatLayer(layer, _bought(layer, trial, gains)) for layer in kept)


def _bought(layer: Layer, trial: Trial, gains: Mapping[str, float]) -> str:
    price = trial.price[layer.node]
    if price < 0:
        return f"it is {-price:.3f} ms faster in float ({layer.role})"
    dearer = f", and saves {price:.3f} ms" if trial.ms else ""
    return f"in INT8 it costs {gains[layer.node]:.2f} {trial.unit}{dearer} ({layer.role})"


def _within_drop(order: list[Layer], faster: list[Layer], trial: Trial, max_drop: float,
                 everything: float) -> list[Layer]:
    def holds(layers: list[Layer]) -> bool:
        return trial.loss(_nodes(faster + layers)) <= max_drop

    kept = _fewest(order, holds)
    if kept is None:
        raise GateFailed(f"INT8 loses {everything:.2f} {trial.unit}, and no choice of float layers brings that under "
                         f"{max_drop}; nothing was written", try_="--method, --improve, or --qat EPOCHS")
    return pruned(kept, holds, trial.price)


def _within_ms(order: list[Layer], faster: list[Layer], trial: Trial, max_ms: float | None) -> list[Layer]:
    """The longest beginning of `order` that the time allows, by bisection."""
    assert trial.ms is not None
    assert max_ms is not None
    low, high = 0, len(order) + 1  # `low` layers fit, or nothing does; `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        fits = trial.ms(_nodes(faster + order[:middle])) <= max_ms
        low, high = (middle, high) if fits else (low, middle)
    return order[:low]


def _nodes(layers: Iterable[Layer]) -> frozenset[str]:
    return frozenset(layer.node for layer in layers)


def ranked(layers: Iterable[Layer], gains: Mapping[str, float], price: Mapping[str, float]) -> list[Layer]:
    """The layers that win something back when spared, the most for its price first."""
    return sorted((layer for layer in layers if gains[layer.node] > 0),
                  key=lambda layer: -gains[layer.node] / max(price[layer.node], 1e-6))


def _fewest(order: list[Layer], holds: Holds) -> list[Layer] | None:
    """The shortest beginning of `order` that holds, by bisection; None when not even all of it does."""
    if not holds(order):
        return None
    low, high = 0, len(order)  # `low` layers do not suffice, `high` do
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(order[:middle]) else (middle, high)
    return order[:high]


def pruned(kept: list[Layer], holds: Holds, price: Mapping[str, float]) -> list[Layer]:
    """Put layers back into INT8, the dearest first, wherever the budget still holds without them."""
    for layer in sorted(kept, key=lambda layer: -price[layer.node]):
        without = [other for other in kept if other is not layer]
        if holds(without):
            kept = without
    return kept


def int8_share(graph: FloatGraph, plan: Plan) -> float:
    """Share of all multiply-accumulates that the plan computes in INT8, 0..1."""
    total = sum(layer.macs for layer in graph.layers)
    return sum(layer.macs for layer in graph.layers if layer.node in plan.nodes) / total
