"""`python -m export`: with the word doctor, what this machine can export to and run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from runtime import cli


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m export`."""
    parser = cli.parser("export", "Look at this machine. Targets have commands of their own, python -m export.TARGET; "
                        "doctor lists them.", "python -m export doctor")
    parser.add_argument("command", choices=("doctor",), help="doctor: what this machine can export to and run, which "
                        "packages that takes, and what is known not to work together; exit code 1 if there is such")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    from export import doctor
    from export.target import targets
    from runtime.sessions import engines

    machine = doctor.this_machine(targets().values(), engines().values())
    found = doctor.problems(machine, targets().values())
    print(doctor.report(machine, doctor.abilities(targets(), engines()), found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
