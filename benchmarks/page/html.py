"""Rows to one self-contained page. Text and tables stand in the HTML itself; plotly.js only adds the charts."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from benchmarks.measurement import Measurement
from benchmarks.page import charts, machines
from benchmarks.page.candidates import Candidate, by_machine
from benchmarks.page.text import bullets, filled, marks
from benchmarks.page.untimed import Untimed, cells
from benchmarks.page.verdict import Verdict
from runtime.errors import MissingLibrary


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
        MissingLibrary: plotly, which carries the JavaScript, is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingLibrary("plotly", "the report", "report") from error
    profiled = [c for c in candidates if "layers" in c.others]
    colours = charts.network_colours(candidates)
    figures = {
        "tradeoffs": [charts.tradeoff(found, max_ms, colours) for found in by_machine(candidates).values()],
        "charts": {"stages": charts.stages(candidates), "sustained": charts.sustained(candidates)},
        "profiles": [{"roofline": charts.roofline(c.others["layers"]), "layers": charts.layers(c.others["layers"])}
                     for c in profiled],
    }
    parts = {
        "style": _asset("page.css"), "script": _asset("page.js"), "plotly": get_plotlyjs(),
        "figures": json.dumps(figures).replace("<", "\\u003c"),
        "verdicts": machines.verdicts(decisions), "warning": _warning(candidates),
        "tradeoffs": machines.places(decisions), "sustained": machines.heat(candidates),
        "filters": _filters(candidates), "table": _table(candidates, decisions), "classes": _classes(candidates),
        "profiles": _profiles(profiled), "videos": _videos(candidates),
        "overlays": _overlays(candidates, folders), "skipped": _skipped(skipped), "untimed": _untimed(untimed),
        "conditions": machines.conditions(candidates), "commands": _commands(candidates), "command": escape(command),
        "count": str(len(candidates)),
    }
    text = _asset("page.html")
    for name, part in parts.items():
        text = text.replace("{{" + name + "}}", part)
    return text


def _asset(name: str) -> str:
    return files("benchmarks.page").joinpath(name).read_text(encoding="utf-8")


def _warning(candidates: Sequence[Candidate]) -> str:
    found = []
    if invalid := sum(bool(c.invalid) for c in candidates):
        found.append(f"<b>{invalid} of {len(candidates)} rows are invalid</b> and shown with open marks: do not "
                     "quote their figures. The conditions below say why.")
    if quick := sum(c.quick for c in candidates):
        found.append(f"<b>{quick} of {len(candidates)} rows are quick</b>: an indication, no result.")
    return "".join(f'<p class="warning">{line}</p>' for line in found)


def _filters(candidates: Sequence[Candidate]) -> str:
    """A chip for each value of what differs; it doubles as the chart's legend."""
    colours = charts.network_colours(candidates)
    groups: dict[str, list[str]] = {}
    for candidate in candidates:
        for field, value in charts.facets(candidate).items():
            if value not in groups.setdefault(field, []):
                groups[field].append(value)
    return "".join(
        f'<div class="filter"><span>{field}</span>' + "".join(
            f'<button type="button" class="chip" data-field="{field}" data-value="{escape(value)}" '
            f'aria-pressed="true">{_key(field, value, colours)}{escape(value)}</button>'
            for value in sorted(values)) + "</div>"
        for field, values in groups.items() if len(values) > 1)


def _key(field: str, value: str, colours: Mapping[str, str]) -> str:
    """The colour or the mark that stands for a value in the chart."""
    if field == "network":
        return f'<i style="background:{colours[value]}"></i>'
    return {"fp32": "● ", "fp16": "◆ ", "int8": "■ "}.get(value, "▲ ") if field == "precision" else ""


def _table(candidates: Sequence[Candidate], decisions: Mapping[str, Verdict]) -> str:
    columns = [column for column in filled(candidates) if column[0] != "marks"]
    head = "".join(f"<th>{escape(title)}</th>" for title, _ in columns)
    rows = []
    for c in candidates:
        attributes = " ".join(f'data-{field}="{escape(value)}"' for field, value in charts.facets(c).items())
        badges = "".join(f' <span class="badge {mark.lower()}">{mark}</span>' for mark in marks(c).split(", ") if mark)
        badges += ' <span class="badge ship">ship</span>' if c is decisions[c.machine].chosen else ""
        first, *others = (escape(cell(c)) for _, cell in columns)
        rows.append(f"<tr {attributes}><th>{first}{badges}</th>{''.join(f'<td>{cell}</td>' for cell in others)}</tr>")
    return f"<table id='rows'><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _classes(candidates: Sequence[Candidate]) -> str:
    """IoU per class as a table whose cells are tinted by their value."""
    scored = [c for c in candidates if "accuracy" in c.others]
    if not scored:
        return "<p>No accuracy was measured.</p>"
    names = list(dict.fromkeys(name for c in scored for name in c.others["accuracy"].details["iou_by_class"]))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(f"<tr><th>{escape(c.label)}</th>" + "".join(
        _heat(c.others["accuracy"].details["iou_by_class"].get(name)) for name in names) + "</tr>" for c in scored)
    return f"<table class='heat'><thead><tr><th>IoU, %</th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _heat(iou: float | None) -> str:
    return "<td>–</td>" if iou is None else f'<td style="--v:{iou:.3f}">{100 * iou:.1f}</td>'


VIDEO = (("engine only, FPS", "engine_only_fps", ".1f"), ("decode to overlay, FPS", "pipeline_fps", ".1f"),
         ("/ engine only", "pipeline_over_engine_only", ".2f"), ("naive loop, FPS", "naive_loop_fps", ".1f"),
         ("/ naive loop", "pipeline_over_naive_loop", ".2f"), ("camera: shown after, ms", "camera_age_p50_ms", ".0f"),
         ("/ inference", "camera_age_over_inference", ".2f"), ("dropped", "camera_dropped", ".0f"))
"""Columns of the table about video: title, key in a "pipeline" row's values, format."""


def _videos(candidates: Sequence[Candidate]) -> str:
    """What is left of the engine's speed on a video and on a camera; "" where nobody measured it."""
    measured = [(c, c.others["pipeline"]) for c in candidates if "pipeline" in c.others]
    if not measured:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title, _, _ in VIDEO)
    badge = " <span class='badge invalid'>invalid</span>"
    rows = "".join(f"<tr><th>{escape(c.label)}{badge if entry.invalid else ''}</th>"
                   + "".join(f"<td>{format(entry.values[key], how) if key in entry.values else '–'}</td>"
                             for _, key, how in VIDEO) + "</tr>" for c, entry in measured)
    return ("<h3>On a video, and on a camera that shows only the latest frame</h3><div class='scroll'>"
            f"<table id='videos'><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>")


def _profiles(profiled: Sequence[Candidate]) -> str:
    """A chooser, and for each network its words; the charts are drawn by the script."""
    if not profiled:
        return "<p>No layers were profiled: python -m benchmarks roofline ARTIFACT --rows FILE.</p>"
    options = "".join(f"<option value='{i}'>{escape(c.label)}</option>" for i, c in enumerate(profiled))
    texts = "".join(
        f"<div class='profile' data-profile='{i}'>{bullets(c.others['layers'].details['words'])}"
        + "".join(f"<p class='warning'><b>Invalid</b>: {escape(why)}</p>" for why in c.others["layers"].invalid)
        + "</div>" for i, c in enumerate(profiled))
    return (f"<label>artifact <select id='profile'>{options}</select></label>{texts}"
            "<div id='roofline' class='chart'></div><h3>Slowest kernels</h3><div id='layers' class='chart'></div>")


def _overlays(candidates: Sequence[Candidate], folders: Sequence[Path]) -> str:
    """The same frames under each candidate, one figure per artifact; labels first."""
    figures, labels = [], ""
    for c in candidates:
        overlays = c.others["accuracy"].details.get("overlays", {}) if "accuracy" in c.others else {}
        pictures = "".join(_picture(files["mask"], name, folders) for name, files in overlays.items())
        if pictures:
            labels = labels or "".join(_picture(files["label"], name, folders) for name, files in overlays.items())
            miou = f"mIoU {100 * (c.miou or 0):.1f}"
            figures.append(f"<figure><figcaption><b>{escape(c.label)}</b> {miou}</figcaption>"
                           f"<div class='strip'>{pictures}</div></figure>")
    first = f"<figure><figcaption><b>labels</b></figcaption><div class='strip'>{labels}</div></figure>"
    legend = _legend(candidates)
    return legend + first + "".join(figures) if figures else "<p>No overlays were drawn.</p>"


def _legend(candidates: Sequence[Candidate]) -> str:
    palettes = [c.others["accuracy"].details.get("palette", {}) for c in candidates if "accuracy" in c.others]
    return "<p class='legend'>" + "".join(
        f"<span><i style='background:rgb({','.join(map(str, colour))})'></i>{escape(name)}</span>"
        for name, colour in palettes[0].items()) + "</p>"


def _picture(file: str, name: str, folders: Sequence[Path]) -> str:
    path = next((folder / file for folder in folders if (folder / file).is_file()), None)
    if path is None:
        return f"<span class='missing'>{escape(file)} is missing</span>"
    return (f"<img alt='{escape(name)}' title='{escape(name)}' "
            f"src='data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}'>")


def _untimed(untimed: Sequence[Untimed]) -> str:
    """A table of its own: a time that nobody took is no zero."""
    if not untimed:
        return ""
    rows = "".join("<tr><th>{}</th><td>{}</td><td>{}</td><td class='words'>{}</td></tr>".format(
        *map(escape, cells(entry))) for entry in untimed)
    return ("<h3>Not timed: no engine of this machine runs them</h3><div class='scroll'><table id='untimed'><thead><tr>"
            f"<th></th><th>mIoU</th><th>file MB</th><th>judged</th></tr></thead><tbody>{rows}</tbody></table></div>")


def _skipped(skipped: Sequence[Measurement]) -> str:
    lines = [f"{entry.label}: {entry.details['reason']}" for entry in skipped]
    return f"<h3>Could not be measured</h3>{bullets(lines)}" if lines else ""


def _commands(candidates: Sequence[Candidate]) -> str:
    """How to get each row again."""
    entries = {(entry.kind, entry.command): entry for c in candidates for entry in (c.latency, *c.others.values())}
    return "<dl>" + "".join(f"<dt>{escape(kind)}</dt><dd><code>{escape(command)}</code></dd>"
                            for kind, command in entries) + "</dl>"
