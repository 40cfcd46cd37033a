"""What all exporters' commands share: their flags, the job that these make, and the last line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from export.request import arguments, name_of, request
from export.target import Job, Target
from runtime import cli
from runtime.artifact import Artifact, OutputKind, open_artifact, size_mb
from runtime.files import check_writable, write_text


def parser_for(name: str, target: Target, description: str, example: str) -> argparse.ArgumentParser:
    """A parser with every flag that a target's command has in common with the others'."""
    parser = arguments(f"export.{name}", description, example)
    parser.add_argument("--precision", choices=target.precisions, default=target.precisions[0],
                        help="arithmetic of the artifact")
    parser.add_argument("--output", choices=target.outputs, default=target.outputs[0],
                        help="low: logits at the network's stride, for the exact mask; logits: full size; "
                             "classes: class map")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="images for INT8's ranges")
    parser.add_argument("--allow-few", action="store_true", help="calibrate with fewer than 32 images")
    parser.add_argument("--data", type=Path, metavar="DIR", help="images/ and labels/ to measure mIoU on")
    parser.add_argument("--max-drop", type=float, default=1.0, metavar="POINTS", help="mIoU that may be lost on --data")
    parser.add_argument("--max-frames", type=cli.positive, metavar="N",
                        help="labelled frames to measure on; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write what was made as JSON, for scripts")
    return parser


def job_from(args: argparse.Namespace, **options: object) -> Job:
    """The job of a command's flags, checked before any work begins.

    Args:
        args: of a parser that `parser_for` made.
        options: further fields of `export.request.Request`.

    Raises:
        UserError: no such network, weights, size or folder.
    """
    cli.need("exporting", "export", "onnx", "torch")
    cli.check_folder(args.out)
    if args.json:
        check_writable(args.json)
    wanted = request(name_of(args), weights=args.weights, classes=args.classes, size=args.size,
                     output=OutputKind(args.output), precision=args.precision, **options)
    return Job(wanted, args.out, args.frames, args.calibration, args.allow_few, args.data, args.max_frames,
               args.max_drop, print)


def finish(args: argparse.Namespace, path: Path, remark: str = "") -> int:
    """Print the last line, and write the record that was asked for."""
    from export.weights import summary

    artifact, _ = open_artifact(path)
    print(f"{path}: {size_mb(path):.1f} MB, " + ", ".join([*filter(None, [remark]), summary(artifact.weights)]))
    return write_record(args, path, artifact)


def write_record(args: argparse.Namespace, path: Path, artifact: Artifact) -> int:
    """Write what `--json` asks for; 0, a command's exit code."""
    if args.json:
        record = {"artifact": str(path), "sha256": artifact.sha256, "target": artifact.target,
                  "precision": artifact.precision}
        write_text(args.json, json.dumps(record, indent=2) + "\n")
    return 0
