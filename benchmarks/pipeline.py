"""The whole way from video to overlay beside the engine alone and beside a naive loop, in turns within one run.

    python -m benchmarks pipeline ARTIFACT --source VIDEO [--naive ARTIFACT-WITH-FULL-LOGITS]

Every contender has the same frames and its turn in every round, so that other load on the machine affects all alike;
ratios are of one round's figures, and their median counts. Processor time per frame is reported as well: on a machine
that others use too, it moves least.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import conditions, machine, memory, sustained
from benchmarks.contenders import camera, engine_only, naive_loop, repeated, whole_way, without_a_pause
from runtime import board, cli
from runtime.errors import UserError
from runtime.files import check_writable

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement
    from benchmarks.sustained import Moment
    from runtime.board import Board
    from runtime.sessions import Session
    from runtime.stream import Stream


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = cli.parser("benchmarks pipeline", "Measure what the runtime adds to the engine's own time.",
                        "python -m benchmarks pipeline out/lraspp-512x1024-fp32.onnx --source street.mp4")
    parser.add_argument("artifact", type=Path, help="an engine file or its JSON")
    parser.add_argument("--source", required=True, metavar="VIDEO", help="a video or a folder of images; repeated")
    parser.add_argument("--naive", type=Path, metavar="ARTIFACT",
                        help="the same network with --output logits, for a serial loop with numpy's argmax")
    parser.add_argument("--engine", metavar="NAME", help="as for python -m runtime")
    parser.add_argument("--frames", type=cli.positive, default=60, help="frames of each contender per round")
    parser.add_argument("--rounds", type=cli.positive, default=7, help="rounds")
    parser.add_argument("--workers", type=cli.positive, default=2,
                        help="one-thread sessions of the frame-parallel contenders")
    parser.add_argument("--opencv-threads", type=cli.positive,
                        help="threads of OpenCV's own functions; default: the stream's")
    parser.add_argument("--camera-fps", type=float, default=30.0, help="rate of the camera that the video stands for")
    parser.add_argument("--steady", type=cli.positive, metavar="N",
                        help="instead: run N frames, 500 at least, and watch the memory")
    parser.add_argument("--minutes", type=cli.natural, default=0,
                        help="after the rounds, the pipeline alone for this long without a pause: what heat costs")
    parser.add_argument("--rows", type=Path, metavar="FILE.jsonl", help="add the measurement to this file")
    board.add_flags(parser)
    return cli.run(lambda args: _command(args, parser), parser, argv)


@dataclass
class Turns:
    """What one contender did, one entry per round."""

    fps: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


def _command(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    import cv2

    from runtime.channel import Policy
    from runtime.video import quiet_opencv

    if args.steady and args.steady < 500:
        raise UserError(f"--steady {args.steady} was received; expected 500 or more: the memory is read every 100 "
                        "frames, and a slope needs several readings", try_="--steady 2000")
    if args.rows:
        check_writable(args.rows)
    if on := board.wanted(args):
        return _there(args, parser, on)
    quiet_opencv()
    if args.opencv_threads:
        cv2.setNumThreads(args.opencv_threads)
    if args.steady:
        print(memory.over(_stream(args, 30, workers=args.workers), args.steady))
        return 0
    before, warm, cpu = conditions.snapshot(), conditions.health(), time.process_time()
    with ExitStack() as stack:
        turns = _race(args, stack)
    live = camera(_stream(args, args.camera_fps, policy=Policy.LATEST, workers=1), args.frames)
    others = conditions.between(before, conditions.snapshot(), time.process_time() - cpu)
    details = {key: [warm[key], now] for key, now in conditions.health().items()}
    _print(args, turns, live, others.others_share)
    moments = without_a_pause(_stream(args, 30, workers=1), args.minutes) if args.minutes else []
    entry = _row(args, _values(turns) | {f"camera_{key}": value for key, value in live.items()}, details, moments,
                 others.complaints())
    if moments:
        print(sustained.words(entry))
    if args.rows:
        from benchmarks.measurement import append

        append(args.rows, [entry])
    return 0


def _there(args: argparse.Namespace, parser: argparse.ArgumentParser, on: Board) -> int:
    """The same on a board; its row is written here."""
    from benchmarks.measurement import append, read, this_command
    from runtime.board_command import OUT, flags, run_there
    from runtime.board_files import artifact_files, prepare, source_files

    files, packages = artifact_files(args.artifact, args.engine)
    naive = artifact_files(args.naive, None)[0] if args.naive else []
    source = source_files(args.source)
    code, there = prepare(on, [group for group in (files, naive, source) if group], packages)
    values = vars(args) | {"artifact": f"{there[0]}/{files[0].name}", "on": None, "python": None}
    if naive:
        values["naive"] = f"{there[1]}/{naive[0].name}"
    if source:
        values["source"] = there[-1] if Path(args.source).is_dir() else f"{there[-1]}/{source[0].name}"
    if args.rows:
        values["rows"] = f"{OUT}/rows/rows.jsonl"
    with tempfile.TemporaryDirectory(prefix="edgeseg-pipeline-") as folder:
        run_there(on, code, "benchmarks pipeline", flags(parser, values), {"rows": Path(folder)})
        for entry in read(Path(folder) / "rows.jsonl") if args.rows else ():
            append(args.rows, [replace(entry, command=this_command(), machine={**entry.machine, "board": on.name},
                                       details={**entry.details, "source": args.source})])
    return 0


def _stream(args: argparse.Namespace, fps: float, **options: Any) -> Stream:
    """The artifact on the source, repeated without end at a rate of `fps`."""
    from runtime.stream import Stream

    return Stream(args.artifact, repeated(args.source, fps), engine=args.engine, **options)


def _race(args: argparse.Namespace, stack: ExitStack) -> dict[str, Turns]:
    """All contenders in turn; the first is what the others are compared with."""
    from runtime.artifact import OutputKind, open_artifact
    from runtime.sessions import open_session
    from runtime.sources import open_source

    artifact, path = open_artifact(args.artifact)
    inputs = [artifact.preprocess(shot.image) for shot in islice(open_source(args.source).shots, 8)]

    def sessions(count: int, threads: int | None) -> list[Session]:
        opened = [open_session(artifact, path, engine=args.engine, threads=threads) for _ in range(count)]
        for session in opened:
            stack.callback(session.close)
            session.run(inputs[0])
        return opened

    one, several = sessions(1, None), sessions(args.workers, 1)
    contenders: dict[str, Callable[[], tuple[float, float]]] = {
        "engine only": lambda: engine_only(one, inputs, args.frames),
        f"engine only, {args.workers} at a time": lambda: engine_only(several, inputs, args.frames),
        "pipeline": lambda: whole_way(_stream(args, 30, workers=1), args.frames),
        f"pipeline, {args.workers} at a time": lambda: whole_way(_stream(args, 30, workers=args.workers), args.frames),
    }
    if args.naive:
        full, full_engine = open_artifact(args.naive)
        if full.output_kind is not OutputKind.LOGITS:
            raise UserError(f"{args.naive} returns {full.output_kind.value!r}; the naive loop expects full-size logits",
                            try_=f"python -m export.{full.target} {full.name} --output logits")
        session = open_session(full, full_engine)
        stack.callback(session.close)
        contenders["naive loop"] = lambda: naive_loop(full, session, repeated(args.source, 30), args.frames)
    turns = {name: Turns() for name in contenders}
    for _ in cli.progress(range(args.rounds), args.rounds, "rounds"):
        for name, contender in contenders.items():
            fps, cpu_ms = contender()
            turns[name].fps.append(fps)
            turns[name].cpu_ms.append(cpu_ms)
    return turns


def ratio(turns: dict[str, Turns], name: str, to: str) -> tuple[float, float, float]:
    """Median, lowest and highest over the rounds of one contender's rate over another's."""
    ratios = [a / b for a, b in zip(turns[name].fps, turns[to].fps)]
    return median(ratios), min(ratios), max(ratios)


def _values(turns: dict[str, Turns]) -> dict[str, float]:
    key = {name: name.replace(",", "").replace(" ", "_") for name in turns}
    values = {}
    for name, turn in turns.items():
        values[f"{key[name]}_fps"] = median(turn.fps)
        values[f"{key[name]}_cpu_ms"] = median(turn.cpu_ms)
        for to in ("engine only", "naive loop"):
            if to in turns and to != name:
                values[f"{key[name]}_over_{key[to]}"] = ratio(turns, name, to)[0]
    return values


def _print(args: argparse.Namespace, turns: dict[str, Turns], live: dict[str, float], others: float | None) -> None:
    print(f"{'':<28}{'FPS':>8}{'CPU ms/frame':>14}{'× engine only':>24}{'× naive loop':>24}")
    for name, turn in turns.items():
        columns = ""
        for to in ("engine only", "naive loop"):
            columns += f"{'{:.2f} ({:.2f}–{:.2f})'.format(*ratio(turns, name, to)):>24}" if to in turns else ""
        print(f"{name:<28}{median(turn.fps):>8.1f}{median(turn.cpu_ms):>14.1f}{columns}")
    stages = ", ".join(f"{key.removesuffix('_p50_ms')} {ms:.1f}" for key, ms in live.items() if "_p50_ms" in key
                       and not key.startswith("age"))
    print(f"camera at {args.camera_fps:g} FPS, latest: shown {live['age_p50_ms']:.0f} ms after capture (p90 "
          f"{live['age_p90_ms']:.0f}), {live['age_over_inference']:.2f} × inference; {live['shown']:.0f} shown, "
          f"{live['dropped']:.0f} dropped; p50 ms per stage: {stages}")
    print(f"{args.rounds} rounds of {args.frames} frames; median (lowest–highest) of the rounds' ratios; "
          + ("" if others is None else f"others took {100 * others:.0f} % of the processor"))


def _row(args: argparse.Namespace, values: dict[str, float], details: dict[str, Any], moments: Sequence[Moment],
         invalid: tuple[str, ...]) -> Measurement:
    from benchmarks.measurement import row
    from runtime.artifact import open_artifact
    from runtime.sessions import engine_for

    artifact, _ = open_artifact(args.artifact)
    here = machine.describe()
    values |= sustained.values(moments) if moments else {}
    details |= sustained.details(moments) if moments else {}
    return row("pipeline", artifact, values, engine=engine_for(artifact, args.engine),
               samples=args.frames * args.rounds, machine=here | {"load": conditions.load()},
               invalid=machine.imitated(here) + invalid,
               details={"source": args.source, "rounds": args.rounds, "workers": args.workers, **details})


if __name__ == "__main__":
    sys.exit(main())
