"""`python -m calibration`: a float network and a folder of images in, a judged INT8 artifact out.

Without `--engine` it is the portable form, which every engine reads; with it, the form that this engine computes best.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import cli, cluster
from runtime.errors import UserError
from runtime.files import write_text

if TYPE_CHECKING:
    from calibration.recipe import CalibrationResult
    from calibration.request import CalibrationRequest

METHODS = ("minmax", "percentile", "entropy", "mse")
IMPROVEMENTS = ("equalise", "rounding", "bias")
DEFAULT = ("equalise", "rounding")


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m calibration`."""
    parser = cli.parser("calibration", "Quantise a network to one portable INT8 ONNX file, and judge it.",
                        "python -m calibration lraspp --data shared/data/camvid --max-drop 1.0")
    parser.add_argument("network", help="network, as `python -m export.models` lists them, or a float32 .onnx artifact")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR",
                        help="folder of images; or one with train/ and val/, or images/ and labels/")
    parser.add_argument("--engine", metavar="NAME", help="write the form that this engine computes best; default: "
                        "the one that all engines read")
    parser.add_argument("--method", choices=METHODS, default="mse", help="how ranges are chosen")
    parser.add_argument("--frames", type=cli.positive, default=64, metavar="N", help="frames to calibrate on")
    parser.add_argument("--allow-few", action="store_true", help="accept fewer than 32 frames")
    parser.add_argument("--improve", nargs="*", choices=IMPROVEMENTS, help="what to do beyond ranges: cross-layer "
                        "equalisation, rounding search, bias correction; without a value: none; default: the first "
                        "two, and with --qat the first")
    parser.add_argument("--max-drop", type=float, metavar="POINTS", help="keep layers in float until the loss is at "
                        "most this: points of mIoU, or %% of pixels where there are no labels")
    parser.add_argument("--max-ms", type=float, metavar="MS", help="with --engine: keep in float what a frame of at "
                        "most this many milliseconds has time for there; with --max-drop, both must hold")
    parser.add_argument("--qat", type=cli.positive, metavar="EPOCHS",
                        help="fine-tune with the rounding in place, on the labels "
                        "of DIR/train (needs torch); for what calibration cannot reach")
    parser.add_argument("--sensitivity", action="store_true", help="also measure what each layer loses")
    parser.add_argument("--verdict", action="store_true", help="also compare size, accuracy and speed with float")
    parser.add_argument("--judge", type=cli.positive, default=200, metavar="N", help="frames to judge on at most")
    parser.add_argument("--weights", metavar="SOURCE", help="with a name: as for python -m export.onnx")
    parser.add_argument("--size", type=cli.size, metavar="HxW", help="with a name: input size")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder for the artifact")
    cluster.add_flag(parser)
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    cli.need("quantising", "calibration", "onnx")
    from calibration.judge.measure import find_data
    from calibration.recipe import build
    from calibration.request import CalibrationRequest
    from calibration.source import float_artifact

    default = DEFAULT if args.qat is None else DEFAULT[:1]
    improve = frozenset(default if args.improve is None else args.improve)
    if args.qat is not None:
        _check_qat(args, improve)
    if args.max_ms is not None and not args.engine:
        raise UserError("--max-ms needs an engine to measure in", try_=f"--max-ms {args.max_ms:g} --engine openvino")
    if args.engine and not _has_a_form_of_its_own(args.engine):
        return _by_its_exporter(args)
    find_data(args.data)  # or refuse it before the network is exported
    options = ["--weights", args.weights] if args.weights else []
    options += ["--size", f"{args.size[0]}x{args.size[1]}"] if args.size else []
    artifact, engine = float_artifact(args.network, args.out, options)
    wanted = CalibrationRequest(artifact, engine, args.data, args.out, args.method, args.frames, args.allow_few,
                                improve, args.max_drop, args.max_ms, args.judge, args.qat or 0,
                                args.engine or "", args.ray)
    outcome = build(wanted, say=print)
    if args.sensitivity:
        _sensitivity(wanted, outcome)
    if args.verdict:
        from calibration.judge.verdict import verdict

        print(verdict(wanted, outcome))
    kept = f", {len(outcome.kept)} layers kept in float" if outcome.kept else ""
    print(f"{outcome.path}: {outcome.path.stat().st_size / 1e6:.1f} MB, "
          f"{outcome.artifact.calibration['int8_macs']:.1%} of MACs in INT8{kept}")
    return 0


def _has_a_form_of_its_own(engine: str) -> bool:
    """Whether an engine computes another INT8 graph than the portable one best.

    Raises:
        UserError: there is no such engine, or it has neither a form nor a format of its own.
    """
    from runtime.forms import PORTABLE
    from runtime.sessions import engines

    own = [name for name, entry in engines().items() if entry.form != PORTABLE or name in entry.reads]
    if engine not in own:
        raise UserError(f"--engine {engine} has no INT8 of its own; expected {', '.join(own)}")
    return engines()[engine].form != PORTABLE


def _by_its_exporter(args: argparse.Namespace) -> int:
    """An engine with a format of its own: the exporter of that format calibrates with what is here."""
    from calibration.judge.measure import find_data
    from calibration.source import run_exporter

    if args.verdict or args.sensitivity or args.improve is not None or args.max_ms or args.ray:
        raise UserError(f"--engine {args.engine} is calibrated by its own exporter; --improve, --max-ms, --verdict, "
                        "--sensitivity and --ray are for ONNX files",
                        try_=f"python -m export.{args.engine} --help")
    data = find_data(args.data)
    words = [f"export.{args.engine}", args.network, "--precision", "int8", "--calibration", str(data.images),
             "--out", str(args.out), *(["--weights", args.weights] if args.weights else []),
             *(["--size", f"{args.size[0]}x{args.size[1]}"] if args.size else []),
             *(["--data", str(data.held_out)] if data.labelled else []), *(["--allow-few"] if args.allow_few else []),
             *(["--max-drop", str(args.max_drop)] if args.max_drop is not None else [])]
    run_exporter(words, show=print)
    return 0


def _check_qat(args: argparse.Namespace, improve: frozenset[str]) -> None:
    """Refuse what fine-tuning cannot do before the long work begins."""
    from calibration.quantise.finetune import training_folder

    if args.engine:
        raise UserError(f"--qat learns the portable form, not that of --engine {args.engine}",
                        try_="--qat without --engine, or --engine without --qat")
    training_folder(args.data)
    if undone := sorted(improve - {"equalise"}):
        raise UserError(f"--improve {' '.join(undone)} would undo what --qat learns: it finds roundings and biases by "
                        "itself", try_="--improve equalise, or --improve without a value")


def _sensitivity(wanted: CalibrationRequest, outcome: CalibrationResult) -> None:
    from calibration.judge import sensitivity
    from runtime.parcel import packed

    ready = outcome.prepared
    held_out = ready.held_out.part(sensitivity.FRAMES)
    key = hashlib.sha256("\0".join([outcome.artifact.sha256, *held_out.names]).encode()).hexdigest()[:16]
    cache = wanted.out / ".calibration" / f"sensitivity-{key}.json"
    quantised = sensitivity.Quantised(ready.graph, ready.thresholds, ready.plan, wanted.artifact,
                                      packed(wanted.engine) if wanted.ray else wanted.engine, held_out)
    report = sensitivity.measure(quantised, cache, wanted.ray)
    path = outcome.path.with_suffix(".sensitivity.json")
    write_text(path, sensitivity.to_json(report))
    write_text(path.with_suffix(".svg"), sensitivity.plot(report))
    print(sensitivity.table(report))
    print(f"{path} and {path.with_suffix('.svg').name}: all {len(report.rows)} layers")


if __name__ == "__main__":
    sys.exit(main())
