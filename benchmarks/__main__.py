"""`python -m benchmarks NAME …`: measurements, and the report of what to ship; without a name, the list of them."""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime import cli
from runtime.errors import UserError


def commands() -> dict[str, str]:
    """Name → first line of the docstring, of every module here that has a `main`; read without importing it."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the arguments over to the command that the first one names."""
    words = list(sys.argv[1:] if argv is None else argv)
    known = commands()
    if words and words[0] in known:
        return int(importlib.import_module(f"benchmarks.{words[0]}").main(words[1:]))
    parser = cli.parser("benchmarks", "Measure artifacts, and say which one to ship.",
                        "python -m benchmarks latency out/lraspp-360x480-fp32.onnx --quick")
    parser.add_argument("name", nargs="?", help=f"one of {', '.join(known)}; without one, they are listed")

    def listing(args: object) -> int:
        """Print what there is, or say that a name is not among it."""
        name = getattr(args, "name", None)
        if name is not None:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            raise UserError(f"there is no benchmark {name!r}; known: {', '.join(known)}",
                            try_=f"python -m benchmarks {near[0]}" if near else "python -m benchmarks")
        for known_name, what in known.items():
            print(f"{known_name:12} {what}")
        return 0

    return cli.run(listing, parser, words[:1])  # what follows a misspelt name is not ours to judge


if __name__ == "__main__":
    sys.exit(main())
