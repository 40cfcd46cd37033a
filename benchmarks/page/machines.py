"""What the page says of machines: what to ship on each, where its chart stands, what heat did, and what it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from benchmarks.page.candidates import Candidate
from benchmarks.page.text import bullets
from benchmarks.page.verdict import Verdict
from benchmarks.sustained import words


def verdicts(decisions: Mapping[str, Verdict]) -> str:
    """The page's first words: one verdict, or one for each machine."""
    if len(decisions) == 1:
        (decision,) = decisions.values()
        return f'<h1 id="headline">{escape(decision.headline)}</h1><div id="reasons">{bullets(decision.reasons)}</div>'
    return (f'<h1 id="headline">What to ship on each of {len(decisions)} machines</h1><div class="machines">' + "".join(
        f'<article class="verdict"><p class="kicker">{escape(machine)}</p><h2>{escape(decision.headline)}</h2>'
        f"{bullets(decision.reasons)}</article>" for machine, decision in decisions.items()) + "</div>")


def places(machines: Iterable[str]) -> str:
    """A place for each machine's chart."""
    return '<div class="machines">' + "".join(
        f'<div><h3>{escape(machine)}</h3><div id="tradeoff-{i}" class="chart tall"></div></div>'
        for i, machine in enumerate(machines)) + "</div>"


def heat(candidates: Sequence[Candidate]) -> str:
    """A section for runs without a pause; "" where nobody made any."""
    found = [line for c in candidates for entry in (c.latency, c.others.get("pipeline"))
             if entry and (line := words(entry))]
    return ("<section><h2>What heat leaves of the speed</h2><p class='hint'>Minutes without a pause: frames per "
            "second, and how warm and how fast the processor was, where the machine tells.</p>"
            f"<div id='sustained' class='chart'></div>{bullets(found)}</section>") if found else ""


def conditions(candidates: Sequence[Candidate]) -> str:
    """Machines, and what speaks against each invalid row."""
    machines = list({json.dumps(c.latency.machine, sort_keys=True): c.latency.machine for c in candidates}.values())
    tables = "".join("<dl>" + "".join(
        f"<dt>{escape(key)}</dt><dd>{escape(', '.join(value) if isinstance(value, list) else str(value))}</dd>"
        for key, value in machine.items()) + "</dl>" for machine in machines)
    rules = sorted({c.latency.details["rule"] for c in candidates})
    warmth = [line for c in candidates if (line := _warmth(c))]
    reasons = [f"{c.label}: {why}" for c in candidates for why in c.invalid]
    return tables + bullets(rules) + bullets(warmth) + bullets(reasons)


def _warmth(c: Candidate) -> str:
    """How warm and how fast the processor was before and after, and whether the rounds are of one run."""
    details = c.latency.details
    said = [f"{details[key][0]:g} to {details[key][1]:g} {unit}"
            for key, unit in (("temperature_c", "°C"), ("clock_mhz", "MHz")) if key in details]
    if before := details.get("rounds_of_a_run_that_broke_off"):
        said.append(f"{before} of its rounds are of a run that broke off before")
    return f"{c.label}: {', '.join(said)}" if said else ""
