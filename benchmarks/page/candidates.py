"""Rows about the same artifact, joined: what an engineer chooses between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.measurement import Measurement


@dataclass(frozen=True)
class Candidate:
    """One artifact with one engine and one number of threads.

    Attributes:
        latency: its latency row.
        others: its other rows by kind ("accuracy", "complexity", "layers", "pipeline"), the newest of each.
        machine: what it was measured on, where the rows come from several machines; else "".
    """

    latency: Measurement
    others: Mapping[str, Measurement]
    machine: str = ""

    @property
    def label(self) -> str:
        """For people; unique within a report."""
        return f"{self.latency.label} on {self.machine}" if self.machine else self.latency.label

    @property
    def p50(self) -> float:
        """Median milliseconds from frame to mask."""
        return self.latency.values["p50_ms"]

    @property
    def miou(self) -> float | None:
        """0..1; None where accuracy was not measured."""
        return self.others["accuracy"].values["miou"] if "accuracy" in self.others else None

    @property
    def quick(self) -> bool:
        """Whether its latency is an indication only."""
        return self.latency.quick

    @property
    def invalid(self) -> tuple[str, ...]:
        """Why its figures cannot be trusted."""
        accuracy = self.others.get("accuracy")
        return self.latency.invalid + (accuracy.invalid if accuracy else ())


def joined(rows: Iterable[Measurement]) -> list[Candidate]:
    """Candidates in the order of their latency; of several rows of one kind from one machine the newest counts."""
    newest: dict[tuple[str, str, str, str, int], Measurement] = {}
    for entry in sorted(rows, key=lambda entry: entry.at):
        if entry.sha256:
            threads = entry.details.get("threads", 0) if entry.kind == "latency" else 0
            newest[entry.sha256, machine_name(entry), entry.engine, entry.kind, threads] = entry
    timed = {key: entry for key, entry in newest.items() if entry.kind == "latency"}
    several = len({machine_name(entry) for entry in timed.values()}) > 1
    found = [Candidate(entry, {kind: other for (sha256, machine, engine, kind, _), other in newest.items()
                               if sha256 == entry.sha256 and kind != "latency"
                               and (engine == "" or (engine, machine) == (entry.engine, machine_name(entry)))},
                       machine_name(entry) if several else "")
             for entry in timed.values()]
    return sorted(found, key=lambda candidate: candidate.p50)


def machine_name(entry: Measurement) -> str:
    """What tells machines apart: a board's address, its model or else its processor, and the browser that measured."""
    machine = entry.machine
    parts = (machine.get("board"), machine.get("model") or machine.get("cpu"), machine.get("browser"))
    return ", ".join(str(part) for part in parts if part)


def by_machine(candidates: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    """Candidates by what they were measured on, in their order; "" where that is one machine for all."""
    found: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate.machine, []).append(candidate)
    return found


def skipped(rows: Sequence[Measurement], candidates: Sequence[Candidate]) -> list[Measurement]:
    """What could not be measured, unless a later run did."""
    done = {(e.name, e.size, e.target, e.variant, engine) for e in (*(c.latency for c in candidates), *rows)
            if e.kind in ("latency", "built") for engine in (e.engine, "")}
    last = {(e.name, e.size, e.target, e.variant, e.engine): e for e in rows if e.kind == "skipped"}
    return [entry for key, entry in last.items() if key not in done]


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other one beats in both speed and accuracy, fastest first."""
    best, found = -1.0, []
    for candidate in sorted(candidates, key=lambda c: (c.p50, -(c.miou or 0))):
        if candidate.miou is not None and candidate.miou > best:
            best = candidate.miou
            found.append(candidate)
    return found
