"""`python -m export.models`: which networks there are, and what others measured of them.

`python -m benchmarks complexity --all` counts the GMACs again, beside the published ones.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from export.origins import find, names
from export.spec import ModelSpec
from export.weights import bundled_sets
from runtime import cli

HEADERS = ("name", "parameters", "GMAC", "at", "input", "GFLOPs", "FPS", "mIoU", "source", "weights")
PUBLISHED = {"GFLOPs": ("GFLOPs", "GMAC"), "FPS": ("FPS",), "mIoU": ("mIoU",)}
"""Column → the metrics of which the first published figure stands in it. Articles call multiply-accumulates GFLOPs."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = cli.parser("export.models", "List the networks, or describe one.", "python -m export.models dfanet-a")
    parser.add_argument("name", nargs="?", help="a network to describe; default: list all")
    parser.add_argument("--json", action="store_true", help="the list as JSON")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    if args.name:
        print(description(find(args.name).spec))
        return 0
    rows = [row(find(name).spec) for name in names()]
    print(json.dumps([dict(zip(HEADERS, r)) for r in rows], indent=2) if args.json else table(rows))
    return 0


def row(entry: ModelSpec) -> tuple[str, ...]:
    """One line of the list, as text in the order of `HEADERS`."""
    figures = [next((figure for figure in entry.published if figure.metric in metrics), None)
               for metrics in PUBLISHED.values()]
    sources = dict.fromkeys(figure.source for figure in figures if figure)
    weights = [f"{record.classes} (bundled)" for record in bundled_sets(entry)]
    return (entry.name, f"{entry.parameters / 1e6:.2f} M", f"{entry.gmacs:.2f}", _size(entry.counted_at),
            _size(entry.preprocess.size),
            *(f"{figure.value:g} {figure.conditions}" if figure else "-" for figure in figures),
            "; ".join(sources) or "-", ", ".join([*weights, *entry.weights]) or "-")


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Aligned columns under their headers."""
    widths = [max(len(r[i]) for r in (HEADERS, *rows)) for i in range(len(HEADERS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(r, widths)).rstrip() for r in (HEADERS, *rows))


def description(entry: ModelSpec) -> str:
    """Everything that the spec says about one network."""
    lines = dict(zip(HEADERS, row(entry))) | {
        "classes": f"{len(entry.classes.names)} ({entry.classes.name})",
        "logits": f"stride {entry.stride}, align_corners={entry.align_corners}",
        "sizes": "any" if entry.multiple == 1 else f"multiples of {entry.multiple}",
        "paper": entry.paper, "licence": entry.licence, "note": entry.note}
    for column in (*PUBLISHED, "source"):
        lines.pop(column)  # all figures follow, each with its own source
    for number, figure in enumerate(entry.published):
        lines[f"published {number + 1}"] = f"{figure.metric} {figure.value:g}: {figure.conditions} [{figure.source}]"
    return "\n".join(f"{key:<12} {value}" for key, value in lines.items() if value)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


if __name__ == "__main__":
    sys.exit(main())
