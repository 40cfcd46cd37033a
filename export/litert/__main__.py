"""`python -m export.litert`: a network in, a .tflite file for Android and small boards out, run here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from export.build import build
from export.command import finish, job_from, parser_for
from export.litert import TARGET
from runtime import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    return cli.run(_command, parser_for("litert", TARGET, "Export a network to a verified LiteRT file.",
                                        "python -m export.litert lraspp --precision int8 --calibration photos/"), argv)


def _command(args: argparse.Namespace) -> int:
    return finish(args, build("litert", job_from(args), reuse=False))


if __name__ == "__main__":
    sys.exit(main())
