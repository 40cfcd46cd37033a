"""`edgeseg completion SHELL`: a script that teaches a shell every command, flag, choice and network of ours.

    eval "$(edgeseg completion bash)"

It is made from the commands' own parsers by shtab, so that it knows what this version knows; put it into a file of the
shell's own folder of completions to have it without the second that making it takes.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime import cli

SHELLS = ("bash", "zsh", "fish")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = cli.parser("edgeseg completion", "Print a script that completes commands, flags and networks.",
                        "python -m edgeseg completion bash")
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    cli.need("shell completion", "completion", "shtab")
    import shtab

    print(shtab.complete(tree(), args.shell))
    return 0


def tree() -> argparse.ArgumentParser:
    """All commands' parsers under one, with what each argument completes to."""
    from benchmarks.__main__ import commands as benchmarks
    from edgeseg.__main__ import commands

    whole = argparse.ArgumentParser("edgeseg")
    whole.add_argument("--version", action="store_true", help="print the version")
    below = _add(whole, commands())
    _add(below["benchmarks"], {name: (f"benchmarks.{name}", what) for name, what in benchmarks().items()})
    return whole


def _add(parser: argparse.ArgumentParser,
         commands: Mapping[str, tuple[str, str]]) -> dict[str, argparse.ArgumentParser]:
    """Put commands, name → (module, what it does), below a parser; name → the parser that each has there."""
    places = parser.add_subparsers()
    added = {}
    for name, (module, what) in commands.items():
        own = cli.parser_of(importlib.import_module(module).main)
        for action in own._actions:
            _complete(action)
        if name == "benchmarks":
            own = argparse.ArgumentParser(add_help=False)  # the name that it takes is one of its own commands below
        added[name] = places.add_parser(name, parents=[own], add_help=False, help=what)
    return added


def _complete(action: argparse.Action) -> None:
    """Say what an argument completes to, where its type does not: shtab looks for an attribute `complete`."""
    import shtab

    from export.origins import names

    if action.dest in ("name", "network") and not action.option_strings:
        action.choices = names()
    elif action.type is Path:
        action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
