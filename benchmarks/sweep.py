"""Networks x sizes x targets x precisions: export what is missing, measure what can be measured; resumable.

Where an engine runs an artifact here, its time and its accuracy are measured; where only the target's reference can
judge it, its accuracy; where nothing can, its size is noted, and that it was built and not executed. A second run
measures what the rows do not hold yet, and again what a busy machine made invalid.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from benchmarks import nodes, steps
from benchmarks.plan import Make, Say, Sweep, SweepItem, candidates, engines_by_target, precisions, sizes
from runtime import board, cli, cluster
from runtime.errors import GateFailed, UserError


def run(sweep: Sweep, wanted: Sequence[SweepItem], say: Say, make: Make | None = None) -> list[tuple[Path, str]]:
    """Measure what the rows do not hold yet. Everything finished is on the disk before the next thing begins.

    Args:
        sweep: what all candidates share.
        wanted: the candidates.
        say: receives one line per step.
        make: makes a candidate's artifact, or raises UserError or GateFailed; None for `exported`.

    Returns:
        The artifacts, each with every engine that took it.
    """
    from benchmarks.measurement import append
    from benchmarks.original import Original
    from runtime.sessions import engines

    originals = cache(Original)
    ready: dict[str, list[tuple[Path, str]]] = {}
    for candidate in wanted:
        try:
            path = (make or exported)(candidate, sweep, say)
        except (UserError, GateFailed) as error:
            steps.skip(candidate, sweep, say, error)
            continue
        append(sweep.rows, [steps.skipped(candidate, reason, engine) for engine, reason in sweep.unable.items()
                            if candidate.target in engines()[engine].reads])
        original = originals(candidate.name, candidate.size, candidate.weights)
        able = steps.alone(candidate, path, original, sweep, say)
        ready.setdefault(candidate.size_text, []).extend((path, engine) for engine in able)
    for size, contenders in ready.items():
        steps.together(contenders, size, sweep, say)
    return [contender for contenders in ready.values() for contender in contenders]


def exported(candidate: SweepItem, sweep: Sweep, say: Say) -> Path:
    """The candidate's artifact, made where it is missing or out of date.

    Raises:
        UserError, GateFailed: it cannot be made.
    """
    from export.build import build
    from export.request import request
    from export.target import Job, target

    entry = target(candidate.target)
    if candidate.precision not in entry.precisions:
        raise UserError(f"{entry.title} has no {candidate.precision}; expected {', '.join(entry.precisions)}")
    if lacking := entry.hindrance():
        raise UserError(f"{entry.title} cannot be built here: {lacking}", try_="python -m export doctor")
    wanted = request(candidate.name, weights=candidate.weights, size=candidate.size, precision=candidate.precision)
    calibration = sweep.calibration if candidate.precision == "int8" else None
    say(f"{candidate}: export")
    job = Job(wanted, sweep.out, frames=sweep.data / "images", calibration=calibration,
              say=lambda line: say(f"{candidate}: {line}"), form=candidate.form)
    return build(candidate.target, job)


def command(args: argparse.Namespace) -> int:
    """Check what can be checked at once, a board included, then sweep."""
    from calibration.data.labels import find_pairs
    from export.origins import find
    from runtime import board_files
    from runtime.sessions import engines

    cli.need("exporting", "export", "onnx", "torch")
    find_pairs(args.data)
    models = args.models.split(",")
    for name in models:
        find(name)
    calibration = args.calibration or args.data.parent / "train" / "images"
    on = board.wanted(args)
    if (args.nodes and not args.ray) or (on and args.ray):
        raise UserError("--nodes goes with --ray, and --ray with no --on: expected one way to reach machines",
                        try_="--ray ADDRESS --nodes KIND")
    asked = {name for names in args.targets.values() for name in names}
    if on:
        board_files.prepare(on, packages=[group for name in sorted(asked)
                                          for group in board_files.engine_packages(name)])
    unable = {} if on else {name: why for name in sorted(asked) if (why := engines()[name].hindrance())}
    able = {target: tuple(name for name in names if name not in unable) for target, names in args.targets.items()}
    for name, why in unable.items():
        print(f"{name} is not measured: {why}")
    sweep = Sweep(args.data, calibration if calibration.is_dir() else None, args.out, tuple(args.threads or (None,)),
                  able, args.quick, args.max_frames, on, unable, minutes=args.minutes)
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = [candidate for name in models for candidate in candidates(
        [name], args.sizes or [_own_size(name)], args.targets, args.precisions, args.weights)]
    say = partial(print, flush=True)
    if args.ray:
        nodes.sweep_on(args.ray, args.nodes, sweep, wanted, run, exported, say)
    else:
        run(sweep, wanted, say)
    rows = sweep.known()
    quick = " (QUICK rows: indications, no results)" if any(entry.quick for entry in rows) else ""
    print(f"{sweep.rows}: {len(rows)} rows{quick}. Next: python -m benchmarks report {sweep.rows}")
    return 0


def _own_size(name: str) -> tuple[int, int]:
    """The input (H, W) that a network was made for."""
    from export.request import request

    return request(name, weights="none").spec.preprocess.size


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks sweep`."""
    from benchmarks.latency import thread_counts

    parser = cli.parser("benchmarks sweep", "Export and measure networks x sizes x targets x precisions; run again to "
                        "continue.", "python -m benchmarks sweep --models lraspp,dfanet-a --sizes 256x512,360x480 "
                        "--targets onnx,openvino --precisions fp32,int8 --data ../shared/data/camvid/val")
    parser.add_argument("--models", required=True, metavar="NAME,...", help="networks")
    parser.add_argument("--sizes", type=sizes, metavar="HxW,...", help="input sizes; default: each network's own")
    parser.add_argument("--targets", "--engines", type=engines_by_target, default="onnx", metavar="NAME,...",
                        help="targets, each measured in its own engine where that runs here, and further engines for "
                        "their artifacts; python -m export doctor lists both")
    parser.add_argument("--precisions", type=precisions, default=["fp32"], metavar="P,...",
                        help="of those that the targets offer, such as fp32,fp16,int8")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images/ and labels/, for accuracy")
    parser.add_argument("--calibration", type=Path, metavar="DIR",
                        help="images for INT8; default: train/images beside the data")
    parser.add_argument("--weights", action="append", default=[], metavar="[NAME=]SOURCE",
                        help="as for export.onnx, for one network or for all; default: bundled")
    parser.add_argument("--threads", type=thread_counts, metavar="N,...",
                        help="threads within one frame, each measured; default: the engine decides")
    parser.add_argument("--max-frames", type=cli.positive, metavar="N",
                        help="for accuracy, evenly spread; default: all")
    parser.add_argument("--minutes", type=cli.natural, default=0,
                        help="after the rounds, run each for this long without a pause: what heat costs")
    parser.add_argument("--quick", action="store_true", help="fewer queries; the rows are marked")
    parser.add_argument("--out", type=Path, default=Path("out/sweep"), metavar="DIR", help="artifacts and rows.jsonl")
    board.add_flags(parser)
    cluster.add_flag(parser)
    parser.add_argument("--nodes", type=nodes.kinds, default=[], metavar="KIND,...", help="with --ray: measure on a "
                        "whole node of each kind, started with ray start --labels edgeseg-kind=KIND; default: here")
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
