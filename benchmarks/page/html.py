"""Rows to one self-contained page. Text and tables stand in the HTML itself; plotly.js only adds the charts."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measurement import Measurement
from benchmarks.page import charts, machines
from benchmarks.page.candidates import Candidate, by_machine
from benchmarks.page.text import filled
from benchmarks.page.untimed import Untimed, cells
from benchmarks.page.verdict import Verdict
from runtime.errors import MissingLibrary

if TYPE_CHECKING:
    from jinja2 import Template

VIDEO = (("engine only, FPS", "engine_only_fps", 1), ("decode to overlay, FPS", "pipeline_fps", 1),
         ("/ engine only", "pipeline_over_engine_only", 2), ("naive loop, FPS", "naive_loop_fps", 1),
         ("/ naive loop", "pipeline_over_naive_loop", 2), ("camera: shown after, ms", "camera_age_p50_ms", 0),
         ("/ inference", "camera_age_over_inference", 2), ("dropped", "camera_dropped", 0))
"""Columns of the table about video: title, key in a "pipeline" row's values, digits after the point."""
PRECISION_MARKS = {"fp32": "●", "fp16": "◆", "int8": "■"}
"""What stands for a precision in the chart; see `charts.SYMBOLS`."""


def page(candidates: Sequence[Candidate], untimed: Sequence[Untimed], skipped: Sequence[Measurement],
         decisions: Mapping[str, Verdict], max_ms: float | None, folders: Sequence[Path], command: str) -> str:
    """The page.

    Args:
        candidates: fastest first.
        untimed: what nothing ran here.
        skipped: what could not be measured.
        decisions: what to ship on each machine.
        max_ms: the budget, drawn as a line.
        folders: where overlays are looked for.
        command: what makes this page again.

    Raises:
        MissingLibrary: jinja2, or plotly, which carries the JavaScript, is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs

        template = _template()
    except ImportError as error:
        raise MissingLibrary(error.name or "plotly", "the report", "report") from error
    colours = charts.network_colours(candidates)
    scored, profiled = ([c for c in candidates if kind in c.others] for kind in ("accuracy", "layers"))
    return template.render(
        style=_asset("page.css"), script=_asset("page.js"), plotly=get_plotlyjs(),
        figures={
            "tradeoffs": [charts.tradeoff(found, max_ms, colours) for found in by_machine(candidates).values()],
            "charts": {"stages": charts.stages(candidates), "sustained": charts.sustained(candidates)},
            "profiles": [{"roofline": charts.roofline(c.others["layers"]), "layers": charts.layers(c.others["layers"])}
                         for c in profiled]},
        candidates=candidates, decisions=decisions, facets=charts.facets, filters=_filters(candidates),
        colours=colours, precision_marks=PRECISION_MARKS,
        columns=[column for column in filled(candidates) if column[0] != "marks"],
        untimed=[cells(entry) for entry in untimed],
        skipped=[f"{entry.label}: {entry.details['reason']}" for entry in skipped],
        videos=[(c, c.others["pipeline"]) for c in candidates if "pipeline" in c.others], video_columns=VIDEO,
        scored=scored, profiled=profiled, embedded=_embedding(folders),
        classes=list(dict.fromkeys(name for c in scored for name in c.others["accuracy"].details["iou_by_class"])),
        drawn=[c for c in scored if c.others["accuracy"].details.get("overlays")],
        palette=scored[0].others["accuracy"].details.get("palette", {}) if scored else {},
        sustained=machines.sustained(candidates), machines=machines.descriptions(candidates),
        rules=sorted({c.latency.details["rule"] for c in candidates}), warmth=machines.warmth(candidates),
        reasons=[f"{c.label}: {why}" for c in candidates for why in c.invalid],
        commands=list(dict.fromkeys((entry.kind, entry.command) for c in candidates
                                    for entry in (c.latency, *c.others.values()))), command=command)


def _template() -> Template:
    """Every value is escaped unless the template marks it as safe; a name that it misspells is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html"))


def _asset(name: str) -> str:
    return files("benchmarks.page").joinpath(name).read_text(encoding="utf-8")


def _filters(candidates: Sequence[Candidate]) -> dict[str, list[str]]:
    """What can be filtered by, and its values; the chips double as the chart's legend."""
    groups: dict[str, set[str]] = {}
    for candidate in candidates:
        for field, value in charts.facets(candidate).items():
            groups.setdefault(field, set()).add(value)
    return {field: sorted(values) for field, values in groups.items()}


def _embedding(folders: Sequence[Path]) -> Callable[[str], str]:
    """A picture's file → its contents as a URL; "" where no folder holds it."""
    def embedded(file: str) -> str:
        path = next((folder / file for folder in folders if (folder / file).is_file()), None)
        return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}" if path else ""
    return embedded
