"""Interleaved rounds: how much is measured, in which order, and what one contender's rounds have brought."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.conditions import Conditions, Snapshot, between
from benchmarks.machine import imitated
from benchmarks.sustained import WINDOW_S, Moment
from runtime import cli

if TYPE_CHECKING:
    from benchmarks.kept import KeptRounds
    from benchmarks.worker import MeasuringWorker


@dataclass(frozen=True)
class Rule:
    """How much is measured: at least so many queries for at least so long, spread over so many rounds."""

    queries: int
    seconds: float
    rounds: int
    quick: bool = False

    def __str__(self) -> str:
        return f"at least {self.queries} queries and {self.seconds:g} s, in {self.rounds} interleaved rounds"


SINGLE_STREAM = Rule(1024, 60.0, 20)
"""MLPerf Inference's single-stream scenario: one query at a time, at least 1024 of them and at least 60 s."""
QUICK = Rule(40, 2.0, 5, quick=True)


@dataclass
class Timings:
    """What one worker's rounds have brought so far; times in milliseconds, one list per round."""

    worker: MeasuringWorker
    warmed: dict[str, Any]
    total: list[list[float]] = field(default_factory=list)
    stages: dict[str, list[list[float]]] = field(default_factory=dict)
    processor_s: float = 0.0
    conditions: Conditions = field(default_factory=Conditions)
    memory: dict[str, float | None] = field(default_factory=dict)
    health: list[dict[str, float]] = field(default_factory=list)
    load: float | None = None
    moments: list[Moment] = field(default_factory=list)

    def take(self, answer: dict[str, Any]) -> None:
        """One more round, as the worker has answered it."""
        before, after = (Snapshot(**answer[key]) for key in ("before", "after"))
        self.conditions += between(before, after, answer["processor_s"], self.worker.opened["machine"]["cores"])
        self.total.append(answer["total_ms"])
        for stage, times in answer["stages_ms"].items():
            self.stages.setdefault(stage, []).append(times)
        self.processor_s += answer["processor_s"]
        self.memory = {key: answer[key] for key in ("resident_mb", "peak_mb")}
        self.health.append(answer["health"])
        self.load = answer["load"]

    def endure(self, minutes: int, label: str) -> None:
        """Run for `minutes` without a pause."""
        from benchmarks import sustained

        def window() -> tuple[float, dict[str, float]]:
            answer = self.worker.ask(queries=1, seconds=WINDOW_S)
            seconds = answer["after"]["seconds"] - answer["before"]["seconds"]
            return len(answer["total_ms"]) / seconds, answer["health"]

        self.moments = sustained.run(minutes, window, label)

    def complaints(self) -> tuple[str, ...]:
        """Why the figures cannot be trusted; empty when they can."""
        unsettled = f"the warm-up did not settle within {self.warmed['queries']} queries"
        return (*imitated(self.worker.machine), *self.conditions.complaints(),
                *(() if self.warmed["settled"] else (unsettled,)))


def take_turns(timings: Sequence[Timings], rule: Rule, kept: KeptRounds) -> None:
    """Every contender once in each round, in a new order; rounds that a run before this one has left count."""
    for answers in kept.values:
        for timed, answer in zip(timings, answers):
            timed.take(answer)
    order = random.Random(len(kept.values))
    missing = range(rule.rounds - len(kept.values))
    for _ in cli.progress(missing, len(missing), "latency"):
        answers = {place: timings[place].worker.ask(queries=-(-rule.queries // rule.rounds),
                                                    seconds=rule.seconds / rule.rounds, rest=True)
                   for place in order.sample(range(len(timings)), len(timings))}
        kept.add([answers[place] for place in range(len(timings))])
        for place, timed in enumerate(timings):
            timed.take(answers[place])
