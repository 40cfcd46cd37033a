"""Networks x sizes x precisions: export what is missing, measure speed and accuracy of each artifact; resumable.

A second run measures what the rows do not hold yet, and again what a busy machine made invalid.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import cli
from runtime.errors import GateFailed, UserError

if TYPE_CHECKING:
    from benchmarks.measurement import Measurement

PRECISIONS = ("fp32", "fp16", "int8")
ROWS = "rows.jsonl"


@dataclass(frozen=True)
class Candidate:
    """One artifact that is wanted; `weights` as the exporters' flag, None for the bundled ones."""

    name: str
    size: tuple[int, int]
    precision: str
    weights: str | None

    @property
    def size_text(self) -> str:
        """HxW."""
        return f"{self.size[0]}x{self.size[1]}"

    def __str__(self) -> str:
        return f"{self.name} {self.size_text} {self.precision}"


@dataclass(frozen=True)
class Sweep:
    """What all candidates share.

    Attributes:
        data: labelled frames (images/ and labels/) for accuracy.
        calibration: images for INT8; None where there are none.
        out: folder for artifacts, rows and overlays.
        threads, engines: as in `benchmarks.latency`.
        quick: fewer queries; the rows are marked.
        max_frames: frames for accuracy at most; None for all.
    """

    data: Path
    calibration: Path | None
    out: Path
    threads: tuple[int | None, ...]
    engines: tuple[str | None, ...]
    quick: bool
    max_frames: int | None

    @property
    def rows(self) -> Path:
        """Where the rows go."""
        return self.out / ROWS


def candidates(models: Sequence[str], sizes: Sequence[tuple[int, int]], precisions: Sequence[str],
               weights: Sequence[str]) -> list[Candidate]:
    """All combinations.

    Args:
        models: networks.
        sizes: input (H, W).
        precisions: of PRECISIONS.
        weights: "NAME=SOURCE" for one network, or "SOURCE" for all others.
    """
    named = dict(entry.split("=", 1) for entry in weights if "=" in entry)
    others = next((entry for entry in weights if "=" not in entry), None)
    return [Candidate(name, size, precision, named.get(name, others))
            for name, size, precision in product(models, sizes, precisions)]


def run(sweep: Sweep, wanted: Sequence[Candidate], say: Callable[[str], None]) -> None:
    """Measure what the rows do not hold yet. Everything finished is on the disk before the next thing begins."""
    from benchmarks.measurement import append

    ready: list[tuple[Candidate, Path]] = []
    for candidate in wanted:
        try:
            path = exported(candidate, sweep, say)
            for entry in _alone(path, sweep, say):
                append(sweep.rows, [entry])
        except (UserError, GateFailed) as error:
            say(f"{candidate}: skipped: {error}")
            append(sweep.rows, [_skipped(candidate, str(error))])
        else:
            ready.append((candidate, path))
    by_size = sorted(ready, key=lambda pair: pair[0].size)
    for size, group in groupby(by_size, key=lambda pair: pair[0].size_text):
        _latency([path for _, path in group], size, sweep, say)


def exported(candidate: Candidate, sweep: Sweep, say: Callable[[str], None]) -> Path:
    """The candidate's artifact, made where it is missing or out of date.

    Raises:
        UserError, GateFailed: it cannot be made.
    """
    from export.onnx import build
    from export.request import request
    from export.reuse import unchanged

    precision = "fp32" if candidate.precision == "int8" else candidate.precision
    wanted = request(candidate.name, weights=candidate.weights, size=candidate.size, precision=precision)
    path, images = sweep.out / f"{wanted.stem}.onnx", sweep.data / "images"
    if not unchanged(path, wanted, images):
        say(f"{candidate}: exporting")
        path = build(wanted, sweep.out, frames=images)
    return path if candidate.precision != "int8" else quantised(path, sweep, say)


def quantised(float_path: Path, sweep: Sweep, say: Callable[[str], None]) -> Path:
    """The INT8 artifact of a float one, made where it is missing or of another float file.

    Raises:
        UserError: there is nothing to calibrate on, or the calibration refuses.
    """
    path = float_path.with_name(float_path.name.replace("fp32", "int8"))
    if _comes_from(path, float_path):
        return path
    if sweep.calibration is None:
        raise UserError("there are no images to calibrate INT8 on", try_="--calibration DIR")
    say(f"{path.name}: calibrating")
    done = subprocess.run([sys.executable, "-m", "calibration", str(float_path), "--data", str(sweep.calibration),
                           "--out", str(sweep.out)], capture_output=True, text=True, check=False)
    if done.returncode or not path.exists():
        lines = done.stderr.strip().splitlines() or [f"no {path.name} was written"]
        raise UserError(f"{path.name} could not be made ({lines[-1]})",
                        try_=f"python -m calibration {float_path} --data {sweep.calibration}")
    return path


def _comes_from(path: Path, float_path: Path) -> bool:
    """Whether `path` is a whole artifact that was calibrated from this very float file."""
    from runtime.artifact import engine_sha256, open_artifact

    if not path.exists():
        return False
    try:
        artifact, _ = open_artifact(path)
    except UserError:  # damaged, or of another format: it is made again
        return False
    return artifact.calibration.get("from_sha256") == engine_sha256(float_path)


def _alone(path: Path, sweep: Sweep, say: Callable[[str], None]) -> Iterator[Measurement]:
    """The rows of an artifact that need no company, where they are missing."""
    from benchmarks import complexity, roofline
    from benchmarks.frames import accuracy_row
    from runtime.artifact import open_artifact

    artifact, _ = open_artifact(path)
    have = {(entry.kind, entry.target) for entry in known(sweep)
            if entry.sha256 == artifact.sha256 and not (entry.kind == "layers" and entry.invalid)}
    steps: dict[tuple[str, str], Callable[[], Measurement]] = {
        ("complexity", artifact.target): lambda: complexity.measured(str(path), None)[0],
        ("layers", artifact.target): lambda: roofline.measure(path, sweep.threads[0],
                                                              runs=8 if sweep.quick else roofline.RUNS)}
    for engine in sweep.engines:
        steps["accuracy", engine or artifact.target] = partial(accuracy_row, path, sweep.data, sweep.out,
                                                               sweep.max_frames, engine)
    for (kind, target), step in steps.items():
        if (kind, target) not in have:
            say(f"{path.name}: {kind} ({target})")
            yield step()


def _latency(paths: Sequence[Path], size: str, sweep: Sweep, say: Callable[[str], None]) -> None:
    """All artifacts of one size in one interleaved run, unless each has its row already."""
    from benchmarks.latency import QUICK, SINGLE_STREAM, measure
    from benchmarks.measurement import append
    from runtime.artifact import open_artifact

    have = {(entry.sha256, entry.target, entry.details.get("threads")) for entry in known(sweep)
            if entry.kind == "latency" and entry.quick <= sweep.quick and not entry.invalid}

    def done(path: Path) -> bool:
        opened = [open_artifact(path, engine)[0] for engine in sweep.engines]
        return have >= {(artifact.sha256, artifact.target, count) for artifact in opened for count in sweep.threads}

    missing = [path for path in paths if not done(path)]
    if missing:
        say(f"{size}: latency of {len(missing)} artifacts")
        append(sweep.rows, measure(missing, sweep.threads, QUICK if sweep.quick else SINGLE_STREAM,
                                   sweep.data / "images", engines=sweep.engines))


def known(sweep: Sweep) -> list[Measurement]:
    """Rows of earlier runs."""
    from benchmarks.measurement import read

    return read(sweep.rows) if sweep.rows.exists() else []


def _skipped(candidate: Candidate, reason: str) -> Measurement:
    from benchmarks.measurement import Measurement, now, this_command

    return Measurement("skipped", candidate.name, "onnx", candidate.precision, candidate.size, "low", "", "", {}, 0, {},
                       this_command(), now(), details={"reason": reason})


def sizes(text: str) -> list[tuple[int, int]]:
    """Parse "256x512,360x480"."""
    return [cli.size(part) for part in text.split(",")]


def precisions(text: str) -> list[str]:
    """Parse "fp32,fp16"."""
    found = text.split(",")
    if unknown := [part for part in found if part not in PRECISIONS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no precision; expected some of {', '.join(PRECISIONS)}")
    return found


def command(args: argparse.Namespace) -> int:
    """Check what can be checked at once, then sweep."""
    from calibration.data.labels import find_pairs
    from export.origins import find

    cli.need("exporting", "export", "onnx", "torch")
    find_pairs(args.data)
    models = args.models.split(",")
    for name in models:
        find(name)
    calibration = args.calibration or args.data.parent / "train" / "images"
    sweep = Sweep(args.data, calibration if calibration.is_dir() else None, args.out, tuple(args.threads or (None,)),
                  tuple(args.engines), args.quick, args.max_frames)
    args.out.mkdir(parents=True, exist_ok=True)
    wanted = candidates(models, args.sizes, args.precisions, args.weights)
    run(sweep, wanted, lambda line: print(line, flush=True))
    rows = known(sweep)
    quick = " (QUICK rows: indications, no results)" if any(entry.quick for entry in rows) else ""
    print(f"{sweep.rows}: {len(rows)} rows{quick}. Next: python -m benchmarks report {sweep.rows}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks sweep`."""
    from benchmarks.latency import engine_names, thread_counts

    parser = cli.parser("benchmarks sweep", "Export and measure networks x sizes x precisions; run again to go on.",
                        "python -m benchmarks sweep --models lraspp,dfanet-a --sizes 256x512,360x480 "
                        "--precisions fp32,fp16,int8 --data ../shared/data/camvid/val")
    parser.add_argument("--models", required=True, metavar="NAME,...", help="networks")
    parser.add_argument("--sizes", type=sizes, required=True, metavar="HxW,...", help="input sizes")
    parser.add_argument("--precisions", type=precisions, default=["fp32"], metavar="P,...",
                        help=f"of {', '.join(PRECISIONS)}")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images/ and labels/, for accuracy")
    parser.add_argument("--calibration", type=Path, metavar="DIR",
                        help="images for INT8; default: train/images beside the data")
    parser.add_argument("--weights", action="append", default=[], metavar="[NAME=]SOURCE",
                        help="as for export.onnx, for one network or for all; default: bundled")
    parser.add_argument("--threads", type=thread_counts, metavar="N,...",
                        help="threads within one frame, each measured; default: the engine decides")
    parser.add_argument("--engines", type=engine_names, default=[None], metavar="NAME,...",
                        help="each measured: onnx (ONNX Runtime), openvino; default: onnx")
    parser.add_argument("--max-frames", type=cli.positive, metavar="N",
                        help="for accuracy, evenly spread; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer queries; the rows are marked")
    parser.add_argument("--out", type=Path, default=Path("out/sweep"), metavar="DIR", help="artifacts and rows.jsonl")
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
