"""Every engine of this machine in every precision that it offers, on one network: which one to ship here.

    python -m benchmarks engines lraspp-small --data ../shared/data/camvid/val --max-ms 33

Exports what is missing, measures all in turn under one rule, each in a process of its own, and holds every mask against
the network in torch. A second run continues where the first one ended.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import board, cli
from runtime.errors import UserError

if TYPE_CHECKING:
    from benchmarks.page.candidates import Candidate
    from benchmarks.plan import Make, Sweep, SweepItem


@dataclass(frozen=True)
class Offer:
    """What can be measured.

    Attributes:
        engines: target → the engines that read its files and run there; targets that none runs are left out.
        unable: engine → why it does not run there.
    """

    engines: Mapping[str, tuple[str, ...]]
    unable: Mapping[str, str]

    @property
    def elsewhere(self) -> list[str]:
        """One line for each engine whose files were not even made."""
        from runtime.sessions import engines

        return [f"not here: {engines()[name].title}: {why}" for name, why in self.unable.items()
                if not set(engines()[name].reads) & set(self.engines)]


def offer(elsewhere: bool) -> Offer:
    """Ask every engine.

    Args:
        elsewhere: whether a board measures; then each engine is tried there, and says there what it lacks.
    """
    from export.target import targets
    from runtime.sessions import engines, readers

    unable = {} if elsewhere else {name: why for name, entry in engines().items() if (why := entry.hindrance())}
    able = {target: tuple(name for name in readers(target) if name not in unable) for target in targets()}
    return Offer({target: names for target, names in able.items() if names}, unable)


def candidates(name: str, size: tuple[int, int], weights: str | None, offered: Offer) -> list[SweepItem]:
    """Every precision of every target that something runs, INT8 in every form that one of the engines has."""
    from benchmarks.plan import SweepItem, forms
    from export.target import targets

    return [SweepItem(name, size, target, precision, weights, form) for target, names in offered.engines.items()
            for precision in targets()[target].precisions for form in forms(precision, names)]


def measured(sweep: Sweep, wanted: Sequence[SweepItem], make: Make | None = None) -> tuple[list[Candidate], list[str]]:
    """Measure what is missing.

    Args:
        sweep, wanted, make: as in `benchmarks.sweep.run`.

    Returns:
        All of them, fastest first; and what was refused, one line for each reason.

    Raises:
        UserError: everything was refused.
    """
    from benchmarks.page.turns import refusals
    from benchmarks.sweep import run

    before = len(sweep.known())
    contenders = run(sweep, wanted, lambda line: print(line, flush=True), make)
    refused = refusals([entry for entry in sweep.known()[before:] if entry.kind == "skipped"])
    found = timed(sweep, contenders)
    if not found:
        raise UserError("\n".join([f"no engine ran {wanted[0].name}; expected one at least", *refused]))
    return found, refused


def timed(sweep: Sweep, contenders: Sequence[tuple[Path, str]]) -> list[Candidate]:
    """The rows of these artifacts in these engines, joined, fastest first."""
    from benchmarks.page.candidates import joined
    from runtime.artifact import open_artifact

    wanted = {(open_artifact(path)[0].sha256, engine) for path, engine in contenders}
    rows = [entry for entry in sweep.known() if sweep.is_by(entry) or not entry.engine]
    return [c for c in joined(rows) if (c.latency.sha256, c.latency.engine) in wanted]


def summary(sweep: Sweep, found: Sequence[Candidate], refused: Sequence[str], max_ms: float | None,
            max_drop: float) -> str:
    """The table, what was refused, and the sentence; draws the picture beside the rows."""
    from benchmarks.page.candidates import machine_name
    from benchmarks.page.dots import draw
    from benchmarks.page.turns import sentence, table
    from benchmarks.page.verdict import verdict

    latency = found[0].latency
    network = f"{latency.name} {latency.size[0]}x{latency.size[1]}"
    title = f"{network} on {machine_name(latency)}, {latency.machine['cores']} cores"
    decision = verdict(found, max_ms, max_drop)
    picture = sweep.out / f"{network.replace(' ', '-')}.png"
    draw(picture, title, found, decision.chosen, max_ms, [sentence(decision), *refused])
    return "\n".join([title, table(found, lambda c: found[0], "fastest"), *refused,
                      f"{picture}; the rows: python -m benchmarks report {sweep.rows}", sentence(decision)])


def add_flags(parser: argparse.ArgumentParser, out: str) -> None:
    """The flags of commands that measure one network's artifacts in turn; read them by `planned`."""
    parser.add_argument("name", metavar="NAME", help="network, as `python -m export.models` lists them; or your own: "
                        "package.module:builder, FILE.onnx or FILE.toml")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="images/ and labels/, for accuracy")
    parser.add_argument("--size", type=cli.size, metavar="HxW", help="input size; default: the network's own")
    parser.add_argument("--weights", metavar="SOURCE", help="as for export.onnx; default: bundled")
    parser.add_argument("--calibration", type=Path, metavar="DIR",
                        help="images for INT8; default: train/images beside the data")
    parser.add_argument("--max-ms", type=float, metavar="MS", help="budget from frame to mask, for nine frames in ten")
    parser.add_argument("--max-drop", type=float, default=1.0, metavar="POINTS",
                        help="mIoU that may be lost against the best")
    parser.add_argument("--max-frames", type=cli.positive, metavar="N",
                        help="for accuracy, evenly spread; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer queries; the rows are marked")
    parser.add_argument("--out", type=Path, default=Path(out), metavar="DIR", help="artifacts, rows.jsonl and plots")
    board.add_flags(parser)


def planned(args: argparse.Namespace, offered: Offer) -> tuple[Sweep, tuple[int, int]]:
    """What the flags ask for, and the input size; everything that can be checked at once is checked.

    Raises:
        UserError: no such network, size, weights or data.
    """
    from benchmarks.plan import Sweep
    from calibration.data.labels import find_pairs
    from export.request import request

    cli.need("exporting", "export", "onnx", "torch")
    cli.need("drawing the plot", "report", "matplotlib")
    cli.check_folder(args.out)
    find_pairs(args.data)
    size = request(args.name, weights=args.weights, size=args.size).spec.preprocess.size
    calibration = args.calibration or args.data.parent / "train" / "images"
    return Sweep(args.data, calibration if calibration.is_dir() else None, args.out, (None,), offered.engines,
                 args.quick, args.max_frames, board.wanted(args), offered.unable, together=True), size


def command(args: argparse.Namespace) -> int:
    """Export, measure, summarise."""
    offered = offer(elsewhere=args.on is not None)
    sweep, size = planned(args, offered)
    found, refused = measured(sweep, candidates(args.name, size, args.weights, offered))
    print("\n" + summary(sweep, found, [*refused, *offered.elsewhere], args.max_ms, args.max_drop))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks engines`."""
    parser = cli.parser("benchmarks engines", "Measure one network in every engine of this machine, in every precision "
                        "that it offers, and say which one to ship; run again to continue.",
                        "python -m benchmarks engines lraspp-small --data ../shared/data/camvid/val --max-ms 33")
    add_flags(parser, "out/engines")
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
