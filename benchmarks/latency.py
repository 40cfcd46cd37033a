"""How long one frame takes: each artifact in its own process, all of them in turn, MLPerf's single-stream rule."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import sustained
from benchmarks.rounds import QUICK, SINGLE_STREAM, Rule, Timings
from runtime import board, cli
from runtime.errors import UserError

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement
    from benchmarks.worker import MeasuringWorker
    from calibration.judge.intervals import Interval, Rounds
    from runtime.board import Board


def measure(contenders: Sequence[tuple[Path, str | None]], threads: Sequence[int | None] = (None,),
            rule: Rule = SINGLE_STREAM, frames: Path | None = None, command: str | None = None,
            on: Board | None = None, rows: Path | None = None, minutes: int = 0) -> list[Measurement]:
    """Measure artifacts in turn.

    Args:
        contenders: engine files or their JSON, each with its engine as in `Segmenter.open`.
        threads: threads within one frame; every contender is measured with each of them.
        rule: how much.
        frames: folder of images to run on; None for drawn frames.
        command: for the rows; None for the command that is running.
        on: the board to measure on; None for this machine.
        rows: the file that the rows are added to; until they are, every round is kept beside it, and the same call
            goes on after one that broke off. None to keep nothing.
        minutes: after the rounds, each contender runs for so long without a pause.

    Returns:
        A row for each contender and number of threads.

    Raises:
        UserError: an artifact cannot run there.
        Incomplete: the connection to the board was lost.
    """
    from benchmarks.kept import KeptRounds
    from benchmarks.measurement import append
    from benchmarks.rounds import take_turns
    from benchmarks.worker import MeasuringWorker

    with ExitStack() as stack:
        workers = [stack.enter_context(MeasuringWorker(path, count, engine, frames, on))
                   for (path, engine), count in product(contenders, threads)]
        kept = KeptRounds(rows and rows.parent, _identity(workers, rule, frames))
        timings = [Timings(worker, worker.ask(warm=True)) for worker in workers]
        take_turns(timings, rule, kept)
        for worker, timed in zip(workers, timings if minutes else ()):
            timed.endure(minutes, worker.path.name)
    found = _rows(timings, rule, command, len(kept.values))
    if rows:
        append(rows, found)
    kept.remove()
    return found


def _identity(workers: Sequence[MeasuringWorker], rule: Rule, frames: Path | None) -> dict[str, Any]:
    """What makes two runs the same, so that one may go on where the other broke off."""
    from runtime.artifact import open_artifact

    return {"rule": str(rule), "frames": str(frames), "contenders": [
        [open_artifact(worker.path)[0].sha256, worker.engine, worker.threads, worker.machine] for worker in workers]}


def _rows(timings: Sequence[Timings], rule: Rule, command: str | None, before: int) -> list[Measurement]:
    from benchmarks.measurement import now, row
    from runtime.artifact import open_artifact
    from runtime.sessions import engine_for

    run, rows = f"{now()} {random.SystemRandom().getrandbits(32):08x}", []
    for timed in timings:
        artifact, path = open_artifact(timed.worker.path)
        rows.append(row("latency", artifact, _values(timed, path), engine=engine_for(artifact, timed.worker.engine),
                        samples=sum(map(len, timed.total)), machine=timed.worker.machine,
                        command=command, quick=rule.quick, invalid=timed.complaints(),
                        details={"run": run, "rule": str(rule), "load": timed.load, **_details(timed),
                                 **({"rounds_of_a_run_that_broke_off": before} if before else {})}))
    ratios = _ratios(timings, [entry.label for entry in rows])
    return [replace(entry, details={**entry.details, "ratios": found}) for entry, found in zip(rows, ratios)]


def _details(timed: Timings) -> dict[str, Any]:
    found = {"warm_up_queries": timed.warmed["queries"],
             "rounds_ms": [_median(times) for times in timed.total],
             "rounds_inference_ms": [_median(times) for times in timed.stages["inference"]],
             "stages_ms": {stage: _median([*chain.from_iterable(rounds)]) for stage, rounds in timed.stages.items()}}
    for key in timed.health[0]:
        found[key] = [timed.health[0][key], timed.health[-1][key]]
    if timed.moments:
        found |= sustained.details(timed.moments)
    return found if timed.worker.threads is None else {**found, "threads": timed.worker.threads}


def _ratios(timings: Sequence[Timings], labels: Sequence[str]) -> list[dict[str, Interval]]:
    """For each contender: by how much longer it takes than each one before it, with an interval."""
    from calibration.judge.intervals import ratio_interval

    return [{labels[j]: ratio_interval(timings[j].total, timed.total, paired=True) for j in range(i)}
            for i, timed in enumerate(timings)]


def _values(timed: Timings, path: Path) -> dict[str, float]:
    """The figures; those that this system does not report are absent."""
    from runtime.artifact import size_mb

    queries = sum(map(len, timed.total))
    joules, others = timed.conditions.joules, timed.conditions.others_share
    found = {
        **percentiles(timed.total, timed.stages["inference"]), "processor_ms": 1e3 * timed.processor_s / queries,
        **{key: timed.worker.opened[key] for key in ("cold_start_ms", "load_ms", "first_ms", "before_mb")},
        **timed.memory, "model_mb": size_mb(path),
        "energy_mj": None if joules is None else 1e3 * joules / queries, "others_share": others,
        **(sustained.values(timed.moments) if timed.moments else {}),
    }
    return {key: float(value) for key, value in found.items() if value is not None}


def percentiles(total: Rounds, inference: Rounds) -> dict[str, float]:
    """Figures of queries' milliseconds, round by round: of the whole, and of the engine's part."""
    import numpy as np

    from calibration.judge.intervals import median_interval

    times, engine = (np.array([*chain.from_iterable(rounds)]) for rounds in (total, inference))
    p50, low, high = median_interval(total)
    p90, p99 = np.percentile(times, (90, 99))
    found = {"p50_ms": p50, "p50_low_ms": low, "p50_high_ms": high, "p90_ms": p90, "p99_ms": p99,
             "mean_ms": times.mean(), "min_ms": times.min(), "max_ms": times.max(),
             "inference_p50_ms": np.median(engine), "inference_p90_ms": np.percentile(engine, 90)}
    return {key: float(value) for key, value in found.items()}


def _median(times: Sequence[float]) -> float:
    import statistics

    return float(statistics.median(times))


def table(rows: Sequence[Measurement]) -> str:
    """The rows for a person: one line each, what speaks against them, and the ratios within the run."""
    width = max([8, *(len(entry.label) for entry in rows)])
    head = (f"{'artifact':{width}} {'p50 ms (95 %)':>22}{'p90':>8}{'p99':>8}{'mean':>8}{'min':>8}{'engine':>8}"
            f"{'CPU ms':>8}{'cold ms':>9}{'load':>7}{'peak MB':>9}{'now':>7}{'file':>7}{'mJ':>7}{'queries':>9}")
    lines = [head, *(_line(entry, width) for entry in rows)]
    lines += filter(None, map(sustained.words, rows))
    lines += [f"INVALID {entry.label}: {reason}" for entry in rows for reason in entry.invalid]
    lines += [f"{entry.label} takes {ratio:.3f} (95 %: {low:.3f} to {high:.3f}) times as long as {other}"
              for entry in rows for other, (ratio, low, high) in entry.details.get("ratios", {}).items()]
    rules = {("QUICK, an indication and no result: " if entry.quick else "") + entry.details["rule"] for entry in rows}
    return "\n".join([*lines, *sorted(rules)])


def _line(entry: Measurement, width: int) -> str:
    v = entry.values
    interval = f"{v['p50_ms']:.2f} ({v['p50_low_ms']:.2f}-{v['p50_high_ms']:.2f})"
    columns = (("p90_ms", 8, 2), ("p99_ms", 8, 2), ("mean_ms", 8, 2), ("min_ms", 8, 2), ("inference_p50_ms", 8, 2),
               ("processor_ms", 8, 2), ("cold_start_ms", 9, 0), ("load_ms", 7, 0), ("peak_mb", 9, 0),
               ("resident_mb", 7, 0), ("model_mb", 7, 1), ("energy_mj", 7, 0))
    cells = "".join(f"{v[key]:>{size}.{digits}f}" if key in v else f"{'-':>{size}}" for key, size, digits in columns)
    return f"{entry.label:{width}} {interval:>22}{cells}{entry.samples:>9}"


def thread_counts(text: str) -> list[int]:
    """Parse "1,2,4"."""
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} are no thread counts; expected e.g. 1,2,4")
    return counts


def engine_names(text: str) -> list[str | None]:
    """Parse "onnx,openvino"."""
    from runtime.sessions import engines

    names = text.split(",")
    if unknown := [name for name in names if name not in engines()]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no engine; expected some of {', '.join(engines())}")
    return list(names)


def command(args: argparse.Namespace) -> int:
    """Measure, print, and keep the rows where asked."""
    from runtime.artifact import open_artifact
    from runtime.sessions import engine_for

    contenders = list(product(args.artifacts, args.engines))
    for path, engine in contenders:
        engine_for(open_artifact(path)[0], engine)  # a damaged one is named before minutes are spent on the others
    if args.frames is not None and not args.frames.is_dir():
        raise UserError(f"--frames {args.frames} is not a folder; expected one with images")
    rows = measure(contenders, args.threads or (None,), QUICK if args.quick else SINGLE_STREAM, args.frames,
                   on=board.wanted(args), rows=args.rows, minutes=args.minutes)
    print(table(rows))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks latency`."""
    parser = cli.parser("benchmarks latency", "Measure how long artifacts take for one frame, against each other.",
                        "python -m benchmarks latency out/*.onnx --threads 1,2 --rows rows.jsonl")
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT", help="engine files or their JSON")
    parser.add_argument("--threads", type=thread_counts, metavar="N,...",
                        help="threads within one frame, each measured; default: the engine decides")
    parser.add_argument("--engines", type=engine_names, default=[None], metavar="NAME,...",
                        help="each measured, as for python -m runtime --engine; default: the format's own")
    parser.add_argument("--frames", type=Path, metavar="DIR", help="images to run on; default: drawn frames")
    parser.add_argument("--quick", action="store_true",
                        help=f"{QUICK}, instead of {SINGLE_STREAM}; the rows are marked")
    parser.add_argument("--minutes", type=cli.natural, default=0,
                        help="after the rounds, run each for this long without a pause: what heat costs")
    parser.add_argument("--rows", type=Path, metavar="FILE.jsonl",
                        help="add the rows to this file, for the report; with it, a run that broke off can go on")
    board.add_flags(parser)
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
