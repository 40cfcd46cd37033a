"""`python -m export.coreml`: a network in, an .mlpackage for iPhone and Mac out, evaluated here without either."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from export.command import finish, job_from, parser_for
from export.coreml import TARGET
from export.coreml.exporter import SYSTEMS
from runtime import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = parser_for("coreml", TARGET, "Export a network to a verified Core ML package, on any machine.",
                        "python -m export.coreml lraspp --precision int8 --calibration photos/")
    parser.add_argument("--target", choices=SYSTEMS, default="iOS17", help="oldest system that the package runs on")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--image", dest="image", action="store_true", default=True,
                      help="input is a pixel buffer, as cameras deliver it; the default")
    kind.add_argument("--tensor", dest="image", action="store_false", help="input is a multi-array")
    parser.add_argument("--inspect", action="store_true",
                        help="NAME is an .mlpackage: list its operations and, on a Mac, where they run")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    from export.coreml.exporter import CoremlOptions, exported, library
    from runtime.sessions.coreml import on_mac

    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # coremltools' progress bars; tqdm reads it when torch imports it
    library()
    if args.inspect:
        from export.coreml.inspect import inspected

        print("\n".join(inspected(Path(args.name))))
        return 0
    path = exported(job_from(args), CoremlOptions(args.target, args.image))
    executed = "verified in Core ML" if on_mac() else "evaluated here, never run on an Apple device"
    return finish(args, path, f"{args.target} and later, {executed}")


if __name__ == "__main__":
    sys.exit(main())
