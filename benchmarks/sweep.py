"""Networks x sizes x targets x precisions: export what is missing, measure what can be measured here; resumable.

Where an engine runs an artifact here, its time and its accuracy are measured; where only the target's reference can
judge it, its accuracy; where nothing can, its size is noted, and that it was built and not executed. A second run
measures what the rows do not hold yet, and again what a busy machine made invalid.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.remote import Remote
from runtime import cli
from runtime.errors import EdgesegError, GateFailed, Incomplete, UserError

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement
    from benchmarks.original import Original
    from benchmarks.ssh import Board
    from runtime.artifact import Artifact
    from runtime.segmenter import Segmenter

Say = Callable[[str], None]
Make = Callable[["Candidate", "Sweep", Say], Path]

ROWS = "rows.jsonl"
REFERENCE = "reference"
"""Engine of a row whose accuracy comes from a target's reference rather than from an engine."""


@dataclass(frozen=True)
class Candidate:
    """One artifact that is wanted; `weights` as the exporters' flag, None for the bundled ones; `form` where there are
    several of one precision."""

    name: str
    size: tuple[int, int]
    target: str
    precision: str
    weights: str | None
    form: str = ""

    @property
    def size_text(self) -> str:
        """HxW."""
        return f"{self.size[0]}x{self.size[1]}"

    def __str__(self) -> str:
        return f"{self.name} {self.size_text} {'-'.join(filter(None, (self.precision, self.form)))} {self.target}"


@dataclass(frozen=True)
class Sweep:
    """What all candidates share.

    Attributes:
        data: labelled frames (images/ and labels/) for accuracy.
        calibration: images for INT8; None where there are none.
        out: folder for artifacts, rows and overlays.
        threads: as in `benchmarks.latency`.
        engines: target → the engines to run its artifacts with; empty where none runs here.
        unable: engine that was asked for and cannot run here → why.
        together: where one latency is missing all are measured again, so that they stand in one run.
        quick: fewer queries; the rows are marked.
        max_frames: frames for accuracy at most; None for all.
        on: the board that measures time and accuracy; None for this machine.
    """

    data: Path
    calibration: Path | None
    out: Path
    threads: tuple[int | None, ...]
    engines: Mapping[str, tuple[str, ...]]
    quick: bool
    max_frames: int | None
    on: Board | None = None
    unable: Mapping[str, str] = field(default_factory=dict)
    together: bool = False

    def is_by(self, entry: Measurement) -> bool:
        """Whether a row was measured on the machine that is asked for."""
        return entry.machine.get("board") == (self.on and self.on.host)

    @property
    def rows(self) -> Path:
        """Where the rows go."""
        return self.out / ROWS


def candidates(models: Sequence[str], sizes: Sequence[tuple[int, int]], targets: Sequence[str],
               precisions: Sequence[str], weights: Sequence[str]) -> list[Candidate]:
    """All combinations.

    Args:
        models: networks.
        sizes: input (H, W).
        targets: names of `export.target.targets`.
        precisions: each wanted of every target; one that lacks it is told so.
        weights: "NAME=SOURCE" for one network, or "SOURCE" for all others.
    """
    named = dict(entry.split("=", 1) for entry in weights if "=" in entry)
    others = next((entry for entry in weights if "=" not in entry), None)
    return [Candidate(name, size, target, precision, named.get(name, others))
            for name, size, precision, target in product(models, sizes, precisions, targets)]


def run(sweep: Sweep, wanted: Sequence[Candidate], say: Say, make: Make | None = None) -> list[tuple[Path, str]]:
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
            _skip(candidate, sweep, say, error)
            continue
        append(sweep.rows, [_skipped(candidate, reason, engine) for engine, reason in sweep.unable.items()
                            if candidate.target in engines()[engine].reads])
        original = originals(candidate.name, candidate.size, candidate.weights)
        able = _alone(candidate, path, original, sweep, say)
        ready.setdefault(candidate.size_text, []).extend((path, engine) for engine in able)
    for size, contenders in ready.items():
        _latency(contenders, size, sweep, say)
    return [contender for contenders in ready.values() for contender in contenders]


def exported(candidate: Candidate, sweep: Sweep, say: Say) -> Path:
    """The candidate's artifact, made where it is missing or out of date.

    Raises:
        UserError, GateFailed: it cannot be made.
    """
    from export.build import build
    from export.request import request
    from export.target import Job, target

    room = target(candidate.target)
    if candidate.precision not in room.precisions:
        raise UserError(f"{room.title} has no {candidate.precision}; expected {', '.join(room.precisions)}")
    if lacking := room.hindrance():
        raise UserError(f"{room.title} cannot be built here: {lacking}", try_="python -m export doctor")
    wanted = request(candidate.name, weights=candidate.weights, size=candidate.size, precision=candidate.precision)
    calibration = sweep.calibration if candidate.precision == "int8" else None
    job = Job(wanted, sweep.out, frames=sweep.data / "images", calibration=calibration,
              say=lambda line: say(f"{candidate}: {line}"))
    return build(candidate.target, job)


def _alone(candidate: Candidate, path: Path, original: Original, sweep: Sweep, say: Say) -> list[str]:
    """Take the rows of an artifact that need no company, where they are missing; return the engines that take it.

    Raises:
        Incomplete: the connection to the board was lost.
    """
    from benchmarks.measurement import append
    from runtime.artifact import open_artifact

    artifact, _ = open_artifact(path)
    have = {(entry.kind, entry.engine) for entry in known(sweep)
            if entry.sha256 == artifact.sha256 and not (entry.kind == "layers" and entry.invalid)
            and (sweep.is_by(entry) or entry.engine in ("", REFERENCE))}
    refusing = set()
    for (kind, engine), step in _steps(artifact, path, original, sweep).items():
        if (kind, engine) not in have:
            say(f"{path.name}: {kind}" + (f" ({engine})" if engine else ""))
            try:
                append(sweep.rows, [step()])
            except (UserError, Incomplete) as error:  # an engine that takes no such file, or ends by it, ends no other
                if sweep.on and isinstance(error, Incomplete):
                    raise
                refusing |= {engine} if kind == "accuracy" else set()
                _skip(candidate, sweep, say, error, engine)
    return [engine for engine in sweep.engines[artifact.target] if engine not in refusing]


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
        steps["accuracy", engine] = partial(accuracy, partial(Remote, path, engine, sweep.on), engine)
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


def _latency(contenders: Sequence[tuple[Path, str]], size: str, sweep: Sweep, say: Say) -> None:
    """The artifacts of one size that have no row yet, in one interleaved run."""
    from benchmarks.latency import QUICK, SINGLE_STREAM, measure
    from benchmarks.measurement import append
    from runtime.artifact import open_artifact

    have = {(entry.sha256, entry.engine, entry.details.get("threads")) for entry in known(sweep)
            if entry.kind == "latency" and entry.quick <= sweep.quick and not entry.invalid and sweep.is_by(entry)}

    def done(path: Path, engine: str) -> bool:
        sha256 = open_artifact(path)[0].sha256
        return have >= {(sha256, engine, count) for count in sweep.threads}

    missing = [(path, engine) for path, engine in contenders if not done(path, engine)]
    if missing and sweep.together:
        missing = list(contenders)
    if missing:
        say(f"{size}: latency of {len(missing)} candidates")
        append(sweep.rows, measure(missing, sweep.threads, QUICK if sweep.quick else SINGLE_STREAM,
                                   sweep.data / "images", on=sweep.on))


def known(sweep: Sweep) -> list[Measurement]:
    """Rows of earlier runs."""
    from benchmarks.measurement import read

    return read(sweep.rows) if sweep.rows.exists() else []


def _skip(candidate: Candidate, sweep: Sweep, say: Say, error: EdgesegError, engine: str = "") -> None:
    """Note that a candidate, or one engine with it, could not be measured."""
    from benchmarks.measurement import append

    say(f"{candidate}{engine and f' ({engine})'}: skipped: {error}")
    append(sweep.rows, [_skipped(candidate, str(error), engine)])


def _skipped(candidate: Candidate, reason: str, engine: str = "") -> Measurement:
    from benchmarks.measurement import Measurement, now, this_command

    return Measurement("skipped", candidate.name, candidate.target, candidate.precision, candidate.size, "low", "", "",
                       {}, 0, {}, this_command(), now(), engine=engine,
                       details={"reason": reason, **({"form": candidate.form} if candidate.form else {})})


def sizes(text: str) -> list[tuple[int, int]]:
    """Parse "256x512,360x480"."""
    return [cli.size(part) for part in text.split(",")]


def engines_by_target(text: str) -> dict[str, tuple[str, ...]]:
    """Parse "onnx,openvino,…": targets, and further engines for their artifacts.

    A target is measured in its own engine where that runs here; an engine's name asks for that one, whether it runs
    here or not.
    """
    from export.target import targets
    from runtime.sessions import engines

    found: dict[str, list[str]] = {}
    for name in text.split(","):
        if name not in targets() and name not in engines():
            known = sorted({*targets(), *engines()})
            raise argparse.ArgumentTypeError(f"{name!r} is neither target nor engine; expected some of "
                                             f"{', '.join(known)}")
        own = name in targets()
        asked = name in engines() and not (own and engines()[name].hindrance())
        for target in (name,) if own else engines()[name].reads:
            found.setdefault(target, []).extend([name] * asked)
    return {target: tuple(names) for target, names in found.items()}


def precisions(text: str) -> list[str]:
    """Parse "fp32,fp16"."""
    from export.target import targets

    offered = list(dict.fromkeys(precision for target in targets().values() for precision in target.precisions))
    found = text.split(",")
    if unknown := [part for part in found if part not in offered]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no precision; expected some of {', '.join(offered)}")
    return found


def command(args: argparse.Namespace) -> int:
    """Check what can be checked at once, then sweep."""
    from benchmarks import ssh
    from calibration.data.labels import find_pairs
    from export.origins import find
    from runtime.sessions import engines

    cli.need("exporting", "export", "onnx", "torch")
    find_pairs(args.data)
    models = args.models.split(",")
    for name in models:
        find(name)
    calibration = args.calibration or args.data.parent / "train" / "images"
    board = ssh.wanted(args)
    asked = {name for names in args.targets.values() for name in names}
    unable = {} if board else {name: why for name in sorted(asked) if (why := engines()[name].hindrance())}
    able = {target: tuple(name for name in names if name not in unable) for target, names in args.targets.items()}
    for name, why in unable.items():
        print(f"{name} is not measured: {why}")
    sweep = Sweep(args.data, calibration if calibration.is_dir() else None, args.out, tuple(args.threads or (None,)),
                  able, args.quick, args.max_frames, board, unable)
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = candidates(models, args.sizes, list(args.targets), args.precisions, args.weights)
    run(sweep, wanted, lambda line: print(line, flush=True))
    rows = known(sweep)
    quick = " (QUICK rows: indications, no results)" if any(entry.quick for entry in rows) else ""
    print(f"{sweep.rows}: {len(rows)} rows{quick}. Next: python -m benchmarks report {sweep.rows}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks sweep`."""
    from benchmarks import ssh
    from benchmarks.latency import thread_counts

    parser = cli.parser("benchmarks sweep", "Export and measure networks x sizes x targets x precisions; run again to "
                        "go on.", "python -m benchmarks sweep --models lraspp,dfanet-a --sizes 256x512,360x480 "
                        "--targets onnx,openvino --precisions fp32,int8 --data ../shared/data/camvid/val")
    parser.add_argument("--models", required=True, metavar="NAME,...", help="networks")
    parser.add_argument("--sizes", type=sizes, required=True, metavar="HxW,...", help="input sizes")
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
    parser.add_argument("--quick", action="store_true", help="fewer queries; the rows are marked")
    parser.add_argument("--out", type=Path, default=Path("out/sweep"), metavar="DIR", help="artifacts and rows.jsonl")
    ssh.add_flags(parser)
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
