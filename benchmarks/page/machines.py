"""What the page says of machines: what heat did, what each machine is, and how warm it was."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.page.candidates import Candidate
from benchmarks.sustained import words


def sustained(candidates: Sequence[Candidate]) -> list[str]:
    """A line for each run without a pause."""
    return [line for c in candidates for entry in (c.latency, c.others.get("pipeline"))
            if entry and (line := words(entry))]


def descriptions(candidates: Sequence[Candidate]) -> list[dict[str, str]]:
    """Each machine once, its fields as text."""
    machines = {json.dumps(c.latency.machine, sort_keys=True): c.latency.machine for c in candidates}.values()
    return [{key: ", ".join(value) if isinstance(value, list) else str(value) for key, value in machine.items()}
            for machine in machines]


def warmth(candidates: Sequence[Candidate]) -> list[str]:
    """A line for each candidate whose temperature, clock or broken-off run is known."""
    return [f"{c.label}: {', '.join(parts)}" for c in candidates if (parts := _warmth(c))]


def _warmth(c: Candidate) -> list[str]:
    """How warm and how fast the processor was before and after, and whether the rounds are of one run."""
    details = c.latency.details
    parts = [f"{details[key][0]:g} to {details[key][1]:g} {unit}"
             for key, unit in (("temperature_c", "°C"), ("clock_mhz", "MHz")) if key in details]
    if before := details.get("rounds_of_a_run_that_broke_off"):
        parts.append(f"{before} of its rounds are of a run that broke off before")
    return parts
