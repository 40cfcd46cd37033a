"""`python -m runtime … --on ssh://…`: the stream runs on a board, its outputs are written here."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.board import Board
from runtime.board_command import OUT, flags, run_there
from runtime.board_files import artifact_files, prepare, source_files
from runtime.errors import UserError
from runtime.loopback import is_loopback

REFUSED = {"show": "window", "segment": "recording without end", "keep": "recording without end"}


def run(args: argparse.Namespace, parser: argparse.ArgumentParser, on: Board) -> int:
    """Run the command that was typed on `on`.

    A source that is a file or a folder here goes there once; any other, such as a camera, is the board's own. Files
    that are made come into the places that were asked for, masks one by one, and a page on a port of the board is seen
    on the same port here.

    Raises:
        UserError, Incomplete: as the command here, or the board or the connection failed.
    """
    _check(args)
    files, packages = artifact_files(args.artifact, args.engine)
    source = source_files(args.source)
    code, there = prepare(on, [files, *([source] if source else [])], packages + ([["av"]] if args.save else []))
    places = {name: path.parent for name in ("save", "sheet", "stats") if (path := getattr(args, name))}
    values = vars(args) | {name: f"{OUT}/{name}/{getattr(args, name).name}" for name in places}
    values |= {"artifact": f"{there[0]}/{files[0].name}", "on": None, "python": None}
    if args.masks:
        places["masks"], values["masks"] = Path(args.masks), f"{OUT}/masks"
    if source:
        values["source"] = there[1] if Path(args.source).is_dir() else f"{there[1]}/{source[0].name}"
    seen = args.serve if is_loopback(args.host) else None
    run_there(on, code, "runtime", flags(parser, values), places, seen)
    return 0


def _check(args: argparse.Namespace) -> None:
    for name, what in REFUSED.items():
        if getattr(args, name):
            raise UserError(f"--{name} was received with --on; expected no {what} over ssh", try_="the same command, "
                            "typed on the board")
    if args.source == "-" or args.masks == "-":
        raise UserError("- for stdin or stdout was received with --on; expected file names, as ssh uses both",
                        try_="--masks DIR")
    if args.serve == 0:
        raise UserError("--serve 0 was received with --on; expected a port that is free here and there",
                        try_="--serve 8000")
