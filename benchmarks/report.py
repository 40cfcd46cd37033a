"""Rows to one page that says which artifact to ship; or old rows against new ones, for continuous integration."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime import cli
from runtime.errors import GateFailed, UserError
from runtime.files import write_text


def report(files: Sequence[Path], out: Path, max_ms: float | None, max_drop: float | None) -> str:
    """Write the page, and beside it the same rows as Markdown and CSV.

    Args:
        files: rows, as the other benchmarks write them with --rows.
        out: the page; ".md" and ".csv" take the place of its ending for the others.
        max_ms: budget for nine frames in ten; None for none.
        max_drop: points of mIoU that may be lost; None for any.

    Returns:
        The verdict on each machine as text.

    Raises:
        UserError: a file cannot be read, or there is no latency in any.
    """
    from benchmarks.measurement import read, this_command
    from benchmarks.page.candidates import joined, skipped
    from benchmarks.page.html import page
    from benchmarks.page.text import comma_separated, markdown
    from benchmarks.page.untimed import markdown as untimed_markdown
    from benchmarks.page.untimed import untimed
    from benchmarks.page.verdict import verdicts

    rows = [entry for path in files for entry in read(path)]
    candidates = joined(rows)
    if not candidates:
        raise UserError(f"{', '.join(map(str, files))} hold {len(rows)} rows and no latency among them",
                        try_="python -m benchmarks latency ARTIFACT --rows FILE")
    unrun = untimed(rows)
    decisions = verdicts(candidates, max_ms, max_drop, unrun)
    html = page(candidates, unrun, skipped(rows, candidates), decisions, max_ms, [path.parent for path in files],
                this_command())
    tables = "\n".join(filter(None, (markdown(candidates), untimed_markdown(unrun))))
    for path, text in ((out, html), (out.with_suffix(".md"), tables),
                       (out.with_suffix(".csv"), comma_separated(candidates))):
        write_text(path, text)
    return "\n".join(line for machine, decision in decisions.items()
                     for line in (*([f"{machine}:"] if machine else []), decision.headline,
                                  *(f"  {reason}" for reason in decision.reasons)))


def compared(old: Path, new: Path) -> str:
    """What has changed, as text.

    Raises:
        GateFailed: something has become worse beyond its interval; the message has all of it.
        UserError: nothing could be compared.
    """
    from benchmarks.measurement import read
    from benchmarks.page.compare import compare

    found = compare(read(old), read(new))
    lines = [f"not compared: {line}" for line in found.uncompared] + [f"ok: {line}" for line in found.others]
    if found.regressions:
        worse = [f"WORSE: {line}" for line in found.regressions]
        raise GateFailed("\n".join([f"{len(worse)} regressions beyond the intervals", *worse, *lines]))
    if not found.others:
        reasons = "\n".join(lines)
        raise UserError(f"no row of {new} can be compared with {old}; expected the same artifacts and machine\n"
                        f"{reasons}")
    return "\n".join(lines)


def command(args: argparse.Namespace) -> int:
    """Report or compare."""
    if args.compare:
        if args.rows:
            raise UserError("--compare takes OLD and NEW and no further rows")
        print(compared(*args.compare))
        return 0
    if not args.rows:
        raise UserError("no rows were given; expected files of measurements", try_="python -m benchmarks sweep")
    cli.check_folder(args.out.parent)
    print(report(args.rows, args.out, args.max_ms, args.max_drop))
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, with {args.out.with_suffix('.md').name} and "
          f"{args.out.with_suffix('.csv').name} beside it")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks report`."""
    parser = cli.parser("benchmarks report", "Make a page of measurements, and name the artifact to ship.",
                        "python -m benchmarks report out/sweep/rows.jsonl --max-ms 33 --max-drop 1.0")
    parser.add_argument("rows", nargs="*", type=Path, metavar="ROWS.jsonl", help="what the other benchmarks wrote")
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE.html", help="the page")
    parser.add_argument("--max-ms", type=float, metavar="MS", help="budget from frame to mask, for nine frames in ten")
    parser.add_argument("--max-drop", type=float, metavar="POINTS", help="mIoU that may be lost against the best")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"),
                        help="fail (exit 1) where NEW is worse than OLD beyond the intervals")
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
