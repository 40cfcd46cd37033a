"""`python -m export.onnx`: a network in, a verified .onnx file out, which ONNX Runtime and OpenVINO run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from export.build import build
from export.command import finish, job_from, parser_for
from export.onnx import TARGET
from runtime import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = parser_for("onnx", TARGET, "Export a network to a verified ONNX file.",
                        "python -m export.onnx lraspp --size 512x1024 --frames photos/")
    parser.add_argument("--dynamic", action="store_true", help="let the frame decide height and width")
    parser.add_argument("--no-simplify", action="store_true", help="leave onnxsim out")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    job = job_from(args, dynamic=args.dynamic, simplify=not args.no_simplify)
    return finish(args, build("onnx", job, reuse=False))


if __name__ == "__main__":
    sys.exit(main())
