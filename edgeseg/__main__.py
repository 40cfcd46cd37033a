"""`edgeseg COMMAND …`: every `python -m COMMAND …` under one name; without a command, the map of all."""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime import cli
from runtime.errors import UserError

ROOT = Path(__file__).parent.parent
FOLDERS = ("export", "export/*", "calibration", "runtime", "runtime/*", "benchmarks", "edgeseg/completion")
"""Where commands are, in the order of the work: a network, its artifact, INT8, frames, measurements."""


def commands() -> dict[str, tuple[str, str]]:
    """Name → module with its `main`, and what it does: the docstring behind its colon, read without importing it."""
    found = {}
    for folder in FOLDERS:
        for path in sorted(ROOT.glob(f"{folder}/__main__.py")) or [ROOT / f"{folder}.py"]:
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            name = module.removesuffix(".__main__").removeprefix("edgeseg.")
            line = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            found[name] = (module, line.partition("`: ")[2])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the arguments over to the command that the first one names."""
    words = list(sys.argv[1:] if argv is None else argv)
    known = commands()
    if words and words[0] in known:
        return int(importlib.import_module(known[words[0]][0]).main(words[1:]))
    parser = cli.parser("edgeseg", "Take a segmentation network to a camera, phone or small board.",
                        "python -m edgeseg export.onnx lraspp")
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("command", nargs="?", help=f"one of {', '.join(known)}; without one, they are listed")
    return cli.run(_command, parser, words[:1])  # what follows a misspelt name is not ours to judge


def _command(args: argparse.Namespace) -> int:
    from edgeseg import __version__

    known = commands()
    if args.version:
        print(f"edgeseg {__version__}")
    elif args.command is None:
        print(f"edgeseg {__version__}. Every command explains itself with --help.\n")
        width = max(map(len, known))
        for name, (_, what) in known.items():
            print(f"  edgeseg {name:{width}}  {what}")
    else:
        near = difflib.get_close_matches(args.command, known, n=1, cutoff=0.4)
        raise UserError(f"there is no command {args.command!r}; known: {', '.join(known)}",
                        try_=f"edgeseg {near[0]}" if near else "edgeseg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
