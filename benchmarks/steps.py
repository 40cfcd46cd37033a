"""What a sweep measures of its artifacts: what one shows alone, and the time of all of them in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.plan import Say, Sweep, SweepItem
from benchmarks.remote import Remote
from runtime.errors import BoardUnusable, EdgesegError, Incomplete, UserError

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement
    from benchmarks.original import Original
    from runtime.artifact import Artifact
    from runtime.segmenter import Segmenter

REFERENCE = "reference"
"""Engine of a row whose accuracy comes from a target's reference rather than from an engine."""


def alone(candidate: SweepItem, path: Path, original: Original, sweep: Sweep, say: Say) -> list[str]:
    """Take the rows of an artifact that need no company, where they are missing; return the engines that take it.

    Raises:
        Incomplete, BoardUnusable: the board is gone.
    """
    from benchmarks.measurement import append
    from runtime.artifact import open_artifact

    artifact, _ = open_artifact(path)
    have = {(entry.kind, entry.engine) for entry in sweep.known()
            if entry.sha256 == artifact.sha256 and (sweep.is_by(entry) or entry.engine in ("", REFERENCE))
            and not (entry.kind == "layers" and entry.invalid)
            and not (entry.kind == "accuracy" and (entry.details.get("data"), entry.samples) != _exam(sweep))}
    refusing = set()
    for (kind, engine), step in _steps(artifact, path, original, sweep).items():
        if (kind, engine) not in have:
            say(f"{path.name}: {kind}" + (f" ({engine})" if engine else ""))
            try:
                append(sweep.rows, [step()])
            except (UserError, Incomplete) as error:  # an engine that takes no such file, or ends by it, ends no other
                if sweep.on and isinstance(error, Incomplete | BoardUnusable):
                    raise
                refusing |= {engine} if kind == "accuracy" else set()
                skip(candidate, sweep, say, error, engine)
    return [engine for engine in sweep.engines[artifact.target] if engine not in refusing]


def _exam(sweep: Sweep) -> tuple[str, int]:
    """The labelled frames that accuracy is measured on: their folder, and how many of them."""
    from calibration.data.labels import find_pairs

    count = len(find_pairs(sweep.data))
    return str(sweep.data), min(count, sweep.max_frames or count)


def _steps(artifact: Artifact, path: Path, original: Original,
           sweep: Sweep) -> dict[tuple[str, str], Callable[[], Measurement]]:
    """What can be measured of one artifact alone: (kind of row, engine) → how."""
    from benchmarks import complexity, roofline
    from benchmarks.frames import accuracy_row
    from export.target import reopen
    from runtime.segmenter import Segmenter

    def accuracy(open_: Callable[[], Segmenter | Remote], engine: str) -> Measurement:
        with open_() as segmenter:
            return accuracy_row(segmenter, engine, original, sweep.data, sweep.out, sweep.max_frames)

    engines = sweep.engines[artifact.target]
    runs = 8 if sweep.quick else roofline.RUNS
    steps: dict[tuple[str, str], Callable[[], Measurement]] = {
        ("complexity", ""): lambda: complexity.measured(str(path), None)[0]}
    if roofline.PROFILED in engines and not sweep.on:
        steps["layers", roofline.PROFILED] = lambda: roofline.measure(path, sweep.threads[0], runs=runs)
    for engine in engines:
        steps["accuracy", engine] = partial(accuracy, partial(Remote, path, sweep.on, engine), engine)
    if not engines:
        steps["built", ""] = lambda: _built(artifact, path)
        if session := reopen(artifact, path):
            steps["accuracy", REFERENCE] = lambda: accuracy(lambda: Segmenter(artifact, session), REFERENCE)
    return steps


def _built(artifact: Artifact, path: Path) -> Measurement:
    """A row for what no engine of this machine runs."""
    from benchmarks import machine
    from benchmarks.measurement import row
    from export.target import judged, target
    from runtime.artifact import size_mb

    return row("built", artifact, {"model_mb": size_mb(path)}, samples=1, machine=machine.describe(),
               details={"judged": judged(artifact.target).value, "title": target(artifact.target).title})


def together(contenders: Sequence[tuple[Path, str]], size: str, sweep: Sweep, say: Say) -> None:
    """The artifacts of one size that have no row yet, in one interleaved run."""
    from benchmarks.latency import measure
    from benchmarks.rounds import QUICK, SINGLE_STREAM
    from runtime.artifact import open_artifact

    have = {(entry.sha256, entry.engine, entry.details.get("threads")) for entry in sweep.known()
            if entry.kind == "latency" and entry.quick <= sweep.quick and not entry.invalid and sweep.is_by(entry)}

    def done(path: Path, engine: str) -> bool:
        sha256 = open_artifact(path)[0].sha256
        return have >= {(sha256, engine, count) for count in sweep.threads}

    missing = [(path, engine) for path, engine in contenders if not done(path, engine)]
    if missing and sweep.together:
        missing = list(contenders)
    if missing:
        say(f"{size}: latency of {len(missing)} candidates")
        measure(missing, sweep.threads, QUICK if sweep.quick else SINGLE_STREAM, sweep.data / "images", on=sweep.on,
                rows=sweep.rows, minutes=sweep.minutes)


def skip(candidate: SweepItem, sweep: Sweep, say: Say, error: EdgesegError, engine: str = "") -> None:
    """Note that a candidate, or one engine with it, could not be measured."""
    from benchmarks.measurement import append

    say(f"{candidate}{engine and f' ({engine})'}: skipped: {error}")
    append(sweep.rows, [skipped(candidate, str(error), engine)])


def skipped(candidate: SweepItem, reason: str, engine: str = "") -> Measurement:
    """The row that says why there is none."""
    from benchmarks.measurement import Measurement, now, this_command

    return Measurement("skipped", candidate.name, candidate.target, candidate.precision, candidate.size, "low", "", "",
                       {}, 0, {}, this_command(), now(), engine=engine,
                       details={"reason": reason, **({"form": candidate.form} if candidate.form else {})})
