"""How every command ends: one line for a person, and an exit code that a script can trust."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import NoReturn, TypeVar

from runtime.errors import EdgesegError, MissingLibrary, UserError
from runtime.signals import stoppable

Item = TypeVar("Item")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults as they are typed, where the text does not name one already, and numbers as N and X."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        value, text = action.default, action.help
        unsaid = value is None or isinstance(value, bool) or value in ("", [], (), argparse.SUPPRESS)
        if unsaid or "default:" in (text or ""):
            return text
        if isinstance(value, tuple):
            value = "x".join(map(str, value))  # a size
        elif isinstance(value, list):
            value = (" " if action.nargs else ",").join(map(str, value))
        return f"{text} (default: {value})"

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return "N" if action.type in (int, natural, positive) else "X" if action.type is float else action.dest.upper()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """`run` reports it in one line, as every other mistake; argparse would print the whole usage before it."""
        raise UserError(message, try_=f"{self.prog} --help")


def parser(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """An argument parser that shows defaults and one example, as all our commands do."""
    return _Parser(prog=_as_called(prog), description=description, epilog=f"example: {example}",
                   formatter_class=_Help, allow_abbrev=False)


def _as_called(prog: str) -> str:
    """How the person would call it again: through `edgeseg` where they came through it, else by `python -m`."""
    if Path(sys.argv[0]).name != "edgeseg":
        return f"python -m {prog}"
    return prog if prog.startswith("edgeseg") else f"edgeseg {prog}"


_parsers: ContextVar[list[argparse.ArgumentParser] | None] = ContextVar("parsers", default=None)
"""Where `run` leaves its parser in place of running it; None outside of `parser_of`."""


def parser_of(main: Callable[[Sequence[str]], int]) -> argparse.ArgumentParser:
    """The parser of a command, by its `main`, which is not run: for completion, documentation and tests."""
    found: list[argparse.ArgumentParser] = []
    before = _parsers.set(found)
    try:
        main([])
    finally:
        _parsers.reset(before)
    (parser,) = found
    return parser


def natural(text: str) -> int:
    """Parse a whole number of at least 0."""
    return _at_least(0, text)


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    return _at_least(1, text)


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return int(text)


def size(text: str) -> tuple[int, int]:
    """Parse "HxW", e.g. "360x480", into (H, W) in pixels."""
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; expected HEIGHTxWIDTH, e.g. 360x480") from None
    if height < 1 or width < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; both numbers must be positive")
    return height, width


def check_folder(folder: Path) -> None:
    """See, before long work begins, that `folder` exists or can be made and can be written to.

    Raises:
        UserError: it cannot.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"cannot write to {folder}; {there} is not a folder that you may write to",
                        try_="--out with another folder")


def need(purpose: str, extra: str, *packages: str) -> None:
    """See, before long work begins, that optional packages can be imported.

    Args:
        purpose: what they are for, e.g. "exporting".
        extra: the extra of pyproject.toml that brings them.
        packages: their modules' names.

    Raises:
        MissingLibrary: the first that is not there.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingLibrary(error.name or package, purpose, extra) from error


def run(command: Callable[[argparse.Namespace], int], arguments: argparse.ArgumentParser,
        argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn every expected failure into one line on stderr.

    Returns:
        0 done, or the code of the error that ended it; see `runtime.errors`.
    """
    if (parsers := _parsers.get()) is not None:
        parsers.append(arguments)
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    name = arguments.prog.removeprefix("python -m ")
    try:
        with stoppable():
            code = command(arguments.parse_args(argv))
            sys.stdout.flush()
            return code
    except EdgesegError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stop:
        print(f"{name}: interrupted; finished files are kept", file=sys.stderr)
        return getattr(stop, "exit_code", 128 + signal.SIGINT)
    except BrokenPipeError:  # `| head` closed our stdout: as intended, but Python would report it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        hint = {errno.ENOSPC: "; free some space and run the command again",
                errno.EACCES: "; choose a folder that you may write to",
                errno.EROFS: "; choose a folder that you may write to"}.get(error.errno or 0, "")
        print(f"{name}: error: {error}{hint}", file=sys.stderr)
        return 2


def status(text: str) -> None:
    """Show a line of status in place of the last one, on stderr when that is a terminal; "" clears it."""
    if sys.stderr.isatty():
        print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)


def progress(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Yield `items`, and show how far it is on stderr when that is a terminal.

    Args:
        items: anything.
        total: how many there are; 0 when unknown.
        label: what is being done.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    start, shown = time.perf_counter(), 0.0
    for number, item in enumerate(items, 1):
        yield item
        now = time.perf_counter()
        if now - shown > 0.1 or number == total:
            shown, rate = now, number / (now - start)
            bar = f"{'#' * (30 * number // total):<30} {number}/{total}" if total else str(number)
            print(f"\r{label} {bar} {rate:.1f}/s ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
