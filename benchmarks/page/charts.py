"""The report's charts, as plotly.js reads them: plain dictionaries of data and layout.

Built for plotly.js because it scales with a phone's width, answers to touch as to a mouse, prints as vectors, and comes
whole in one pip package, so that a page needs no network and this repository holds no foreign code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.measurement import Measurement
from benchmarks.page.candidates import Candidate, front

Figure = dict[str, Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
"""Okabe and Ito's palette, which colour-blind people can tell apart, and two more."""
SYMBOLS = {"fp32": "circle", "fp16": "diamond", "int8": "square"}
KINDS = {"1x1": "1×1 convolution", "KxK": "convolution", "depthwise": "depthwise convolution",
         "product": "matrix product", "reorder": "layout change", "other": "other"}
"""Kinds of kernels, see `benchmarks.kernels`, as the legends call them."""
SLOWEST = 24
"""Kernels in the per-layer chart."""


def tradeoff(candidates: Sequence[Candidate], max_ms: float | None, colours: Mapping[str, str]) -> Figure:
    """mIoU against p50 on one machine, one trace per candidate so that filters can hide it, and the Pareto front."""
    scored = [c for c in candidates if c.miou is not None]
    traces = [_point(c, colours[c.latency.name]) for c in scored]
    best = front(scored)
    line = {"type": "scatter", "mode": "lines", "name": "Pareto front", "hoverinfo": "skip", "showlegend": False,
            "x": [c.p50 for c in best], "y": [100 * (c.miou or 0) for c in best],
            "line": {"dash": "dot", "width": 1.5, "color": "#888"}, "meta": {"front": True}}
    widest = max([max_ms or 0, *(c.latency.values["p50_high_ms"] for c in scored)], default=1)
    budget = [{"type": "line", "x0": max_ms, "x1": max_ms, "y0": 0, "y1": 1, "yref": "paper",
               "line": {"color": "#C0392B", "width": 1.5, "dash": "dash"},
               "label": {"text": f"{max_ms:g} ms", "textposition": "end", "textangle": 0, "xanchor": "left",
                         "font": {"color": "#C0392B"}}}
              ] if max_ms is not None else []
    return {"data": [line, *traces],
            "layout": {"xaxis": {"title": {"text": "p50, frame to mask, ms"}, "range": [0, 1.2 * widest]},
                       "yaxis": {"title": {"text": "mIoU, %"}}, "shapes": budget, "hovermode": "closest",
                       "showlegend": False}}


def network_colours(candidates: Sequence[Candidate]) -> dict[str, str]:
    """One colour per network, the same in the chart and in its filters."""
    names = sorted({c.latency.name for c in candidates})
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def _point(c: Candidate, colour: str) -> Figure:
    v, a = c.latency.values, c.others["accuracy"].values
    symbol = SYMBOLS.get(c.latency.precision, "triangle-up") + ("-open" if c.invalid else "")
    notes = "".join(f"<br>{mark}" for mark in ["quick"] * c.quick + [f"invalid: {why}" for why in c.invalid[:1]])
    hover = (f"<b>{c.label}</b><br>p50 {v['p50_ms']:.2f} ms ({v['p50_low_ms']:.2f} to {v['p50_high_ms']:.2f})"
             f"<br>p90 {v['p90_ms']:.2f} ms<br>mIoU {100 * a['miou']:.2f} % ({100 * a['miou_low']:.1f} to "
             f"{100 * a['miou_high']:.1f}){notes}")
    name = f"{c.latency.name} {c.latency.size[0]}×{c.latency.size[1]} {c.latency.precision} {c.latency.engine}"
    return {"type": "scatter", "mode": "markers", "name": c.label, "text": [name], "textposition": "bottom right",
            "x": [v["p50_ms"]], "y": [100 * a["miou"]],
            "marker": {"symbol": symbol, "size": 13, "color": colour, "line": {"width": 2 if c.invalid else 1}},
            "error_x": _error(v["p50_ms"], v["p50_low_ms"], v["p50_high_ms"], 1, colour),
            "error_y": _error(a["miou"], a["miou_low"], a["miou_high"], 100, colour),
            "hovertemplate": hover + "<extra></extra>", "meta": facets(c)}


def facets(c: Candidate) -> dict[str, str]:
    """What filters look at."""
    return {"network": c.latency.name, "engine": c.latency.engine, "precision": c.latency.precision,
            "size": f"{c.latency.size[0]}x{c.latency.size[1]}", "machine": c.machine}


def _error(value: float, low: float, high: float, scale: float, colour: str) -> Figure:
    return {"type": "data", "symmetric": False, "array": [scale * max(high - value, 0)],
            "arrayminus": [scale * max(value - low, 0)], "color": colour, "thickness": 1, "width": 3}


def stages(candidates: Sequence[Candidate]) -> Figure:
    """Where a frame's time goes, one bar per candidate."""
    shown = list(reversed(candidates))
    colours = {"preprocess": "#56B4E9", "inference": "#0072B2", "mask": "#E69F00"}
    traces = [{"type": "bar", "orientation": "h", "name": stage, "y": [c.label for c in shown],
               "x": [c.latency.details["stages_ms"].get(stage, 0) for c in shown], "marker": {"color": colour},
               "hovertemplate": "%{y}<br>" + stage + " %{x:.2f} ms<extra></extra>"}
              for stage, colour in colours.items()]
    return {"data": traces, "layout": {
        "barmode": "stack", "xaxis": {"title": {"text": "median ms"}}, "height": 130 + 34 * len(shown),
        "yaxis": {"automargin": True},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"}}}


PANELS = (("fps", "FPS", "yaxis"), ("temperature_c", "°C", "yaxis2"), ("clock_mhz", "MHz", "yaxis3"))


def sustained(candidates: Sequence[Candidate]) -> Figure:
    """Speed, temperature and clock over the minutes of runs without a pause, one below the other."""
    curves = [(f"{c.label}{' on a video' if entry.kind == 'pipeline' else ''}", entry.details["sustained"])
              for c in candidates for entry in (c.latency, c.others.get("pipeline"))
              if entry and entry.details.get("sustained")]
    panels = [panel for panel in PANELS if any(value is not None for _, curve in curves for value in curve[panel[0]])]
    height = 1 / max(len(panels), 1)
    traces, layout = [], {}
    for place, (key, unit, axis) in enumerate(panels):
        top = 1 - place * height
        layout[axis] = {"title": {"text": unit}, "domain": [max(top - 0.85 * height, 0), top], "rangemode": "tozero"
                        if key == "fps" else "normal"}
        traces += [{"type": "scatter", "mode": "lines", "name": name, "legendgroup": name, "showlegend": not place,
                    "x": [at / 60 for at in curve["at_s"]], "y": curve[key], "yaxis": axis.replace("axis", ""),
                    "line": {"color": COLOURS[number % len(COLOURS)]},
                    "hovertemplate": f"%{{x:.1f}} min<br>%{{y:.1f}} {unit}<extra>{name}</extra>"}
                   for number, (name, curve) in enumerate(curves)]
    last = panels[-1][2].replace("axis", "") if panels else "y"
    return {"data": traces, "layout": {
        **layout, "xaxis": {"title": {"text": "minutes"}, "anchor": last}, "height": 130 + 190 * len(panels),
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"}}}


def roofline(entry: Measurement) -> Figure:
    """Every product of one network under the machine's measured roof; size of a mark: its share of the time."""
    v = entry.values
    total = sum(layer["ms"] for layer in entry.details["layers"])
    xs = (0.1, v["ridge"], 1000.0)
    roof = {"type": "scatter", "mode": "lines", "name": "measured roof", "x": xs, "hoverinfo": "skip",
            "y": [min(v["peak_gflops"], x * v["peak_gbytes"]) for x in xs], "line": {"color": "#888", "width": 2}}
    traces = [roof]
    for colour, (kind, title) in zip(COLOURS, KINDS.items()):
        if layers := [layer for layer in entry.details["layers"] if layer["kind"] == kind and layer["flops"]]:
            traces.append({
                "type": "scatter", "mode": "markers", "name": title,
                "x": [layer["flops"] / layer["bytes"] for layer in layers],
                "y": [layer["flops"] / layer["ms"] / 1e6 for layer in layers],
                "text": [f"{layer['name']}<br>{layer['ms']:.3f} ms, {layer['ms'] / total:.1%}" for layer in layers],
                "marker": {"size": [6 + 40 * (layer["ms"] / total) ** 0.5 for layer in layers], "color": colour,
                           "opacity": 0.7},
                "hovertemplate": "%{text}<br>%{x:.1f} FLOP per byte<br>%{y:.1f} GFLOP/s<extra></extra>"})
    return {"data": traces, "layout": {
        "xaxis": {"type": "log", "title": {"text": "FLOP per byte"}, "range": [-1, 3], "dtick": 1},
        "yaxis": {"type": "log", "title": {"text": "GFLOP/s"}, "dtick": 1}, "height": 430,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"}}}


def layers(entry: Measurement) -> Figure:
    """The slowest kernels of one network, slowest on top."""
    slowest = sorted(entry.details["layers"], key=lambda layer: layer["ms"])[-SLOWEST:]
    traces = []
    for colour, (kind, title) in zip(COLOURS, KINDS.items()):
        if own := [layer for layer in slowest if layer["kind"] == kind]:
            traces.append({
                "type": "bar", "orientation": "h", "name": title, "marker": {"color": colour},
                "y": [layer["name"] for layer in own], "x": [layer["ms"] for layer in own],
                "text": [f"{layer['op']} → {'×'.join(map(str, layer['shape']))}" for layer in own],
                "textposition": "none",
                "hovertemplate": "%{y}<br>%{text}<br>%{x:.3f} ms<extra></extra>"})
    order = [layer["name"] for layer in slowest]
    return {"data": traces, "layout": {
        "xaxis": {"title": {"text": "median ms"}}, "height": 150 + 20 * len(slowest), "barmode": "stack",
        "yaxis": {"automargin": True, "categoryorder": "array", "categoryarray": order, "tickfont": {"size": 10}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"}}}
