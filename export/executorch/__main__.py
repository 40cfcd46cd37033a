"""`python -m export.executorch`: a network in, an ExecuTorch program for phones and small boards out, run here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from export.build import build
from export.command import finish, job_from, parser_for
from export.executorch import TARGET
from runtime import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    return cli.run(_command, parser_for("executorch", TARGET, "Export a network to a verified ExecuTorch file.",
                                        "python -m export.executorch lraspp-small --data val/"), argv)


def _command(args: argparse.Namespace) -> int:
    return finish(args, build("executorch", job_from(args), reuse=False))


if __name__ == "__main__":
    sys.exit(main())
