"""Candidates of one network as a picture: a dot for the time of each, fastest on top, and what it keeps beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from benchmarks.page.candidates import Candidate
from benchmarks.page.charts import COLOURS
from benchmarks.page.turns import kept, lost, short
from runtime.files import in_one_piece

LEGEND = ("lost: points of mIoU; kept: pixels with the same class; both against the network in torch. Hollow: a quick "
          "or an invalid row.")
WIDTH = 165
"""Characters of a remark's line."""
MARKS = {"fp32": "o", "fp16": "D", "int8": "s"}
"""As the report's charts have them."""


def draw(path: Path, title: str, candidates: Sequence[Candidate], chosen: Candidate | None, max_ms: float | None,
         remarks: Sequence[str]) -> None:
    """Write a PNG.

    Args:
        path: of the picture.
        title: network, size and machine.
        candidates: in any order.
        chosen: the one to ship, set off; None for none.
        max_ms: the budget, drawn as a line; None for none.
        remarks: lines below, such as what was refused.
    """
    from matplotlib.figure import Figure

    shown = sorted(candidates, key=lambda c: c.p50, reverse=True)
    below = [line for remark in (LEGEND, *remarks) for line in wrap(remark, WIDTH)]
    figure = Figure(figsize=(9.5, 1.2 + 0.34 * len(shown) + 0.13 * len(below)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    widest = max([max_ms or 0, *(c.latency.values["p90_ms"] for c in shown)])
    for y, c in enumerate(shown):
        _dot(axes, y, c)
        weight = "bold" if c is chosen else "normal"
        axes.text(1.02, y, _beside(c), transform=axes.get_yaxis_transform(), va="center", family="monospace",
                  fontsize=8, fontweight=weight)
    axes.set_yticks(range(len(shown)), [short(c) for c in shown])
    for label, c in zip(axes.get_yticklabels(), shown):
        label.set_fontweight("bold" if c is chosen else "normal")
    axes.text(1.02, len(shown) - 0.4, f"{'lost':>6}{'kept':>10}{'file':>9}", transform=axes.get_yaxis_transform(),
              va="bottom", family="monospace", fontsize=8, color="0.4")
    if max_ms is not None:
        axes.axvline(max_ms, color="#C0392B", linestyle="--", linewidth=1)
        axes.text(max_ms, -0.65, f" {max_ms:g} ms", color="#C0392B", fontsize=8)
    axes.set(xlim=(0, 1.05 * widest), ylim=(-0.7, len(shown) - 0.3), xlabel="ms from frame to mask: dot p50 with its "
             "95 % interval, thin line to p90")
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=7, color="0.35")
    with in_one_piece(path) as temporary:
        figure.savefig(temporary, format="png")


def _dot(axes: Any, y: int, c: Candidate) -> None:
    """The median, its interval and p90 of one candidate; hollow where the row is not to be trusted."""
    v = c.latency.values
    colour = COLOURS[list(MARKS).index(c.latency.precision) if c.latency.precision in MARKS else len(MARKS)]
    axes.plot([v["p50_ms"], v["p90_ms"]], [y, y], color=colour, linewidth=0.8)
    axes.plot([v["p50_low_ms"], v["p50_high_ms"]], [y, y], color=colour, linewidth=3)
    axes.plot(v["p50_ms"], y, MARKS.get(c.latency.precision, "^"), color=colour, markersize=7,
              markerfacecolor="white" if c.invalid or c.quick else colour)


def _beside(c: Candidate) -> str:
    """Points of mIoU lost, pixels kept, and the file's size."""
    return f"{lost(c) or '–':>6}{kept(c) or '–':>10}{c.latency.values['model_mb']:>6.1f} MB"
