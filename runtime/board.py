"""A board reached over ssh: its address, what to start here so that something runs there, and what its end means.

    python -m benchmarks latency out/lraspp-360x480-int8.onnx --on ssh://pi@board.local --quick

This is the system's OpenSSH, so its config, keys and known hosts hold; it asks no questions. A process there lives as
long as the connection: it ends when its pipe is closed, or when it has heard nothing of us for `SILENCE_S`, as after a
cable was pulled. What is copied there, and where to, is in `runtime/board_files.py`.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO

from runtime.errors import BoardUnusable, Incomplete, UserError

FOLDER = ".cache/edgeseg/board"
"""Where everything of ours lies on a board, below the home folder."""
OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3",
           "ExitOnForwardFailure=yes")
"""Ask nothing, and notice within a quarter of a minute that the board is gone."""
BEAT_S, SILENCE_S = 15, 60
LOST = "Connection to .* closed|Broken pipe|Timeout, server|client_loop|Read from remote host"
"""What ssh reports of a connection that broke; one that never came about has other messages."""


@dataclass(frozen=True)
class Board:
    """A machine that ssh reaches.

    Attributes:
        host: [user@]host, as ssh takes it; also a name of its config.
        port: None for ssh's own.
        python: the interpreter there.
    """

    host: str
    port: int | None = None
    python: str = "python3"

    @property
    def name(self) -> str:
        """Its address, which is unique among boards."""
        return self.host + (f":{self.port}" if self.port else "")

    def __str__(self) -> str:
        return f"ssh://{self.name}"

    @property
    def ssh(self) -> str:
        """What a person types to get there."""
        return shlex.join(["ssh", *self._port(), self.host])

    def command(self, *words: str, folder: str | None = None, forward: int | None = None) -> list[str]:
        """The local command that runs the board's interpreter.

        Args:
            words: its arguments.
            folder: where there; None for the home folder.
            forward: a port of this machine that leads to the same one of the board; None for none.
        """
        there = shlex.join([self.python, *words])
        if folder:
            there = f"cd {shlex.quote(folder)} && exec {there}"
        leads = ["-L", f"127.0.0.1:{forward}:127.0.0.1:{forward}"] if forward else []
        return ["ssh", "-T", *(part for option in OPTIONS for part in ("-o", option)), *leads, *self._port(), "--",
                self.host, there]

    def run(self, *words: str, given: bytes = b"") -> str:
        """Run the interpreter to its end and return what it printed.

        Raises:
            UserError: the board cannot be reached, has no such interpreter, or has no room.
            Incomplete: the program there ended with an error.
        """
        done = subprocess.run(self.command(*words), input=given, capture_output=True, check=False)
        if done.returncode:
            raise self.broken(done.returncode, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def broken(self, code: int, stderr: str) -> UserError | Incomplete:
        """What it means that a command on the board ended with `code` and wrote this to stderr."""
        last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "no message")
        if code == 255 and re.search(LOST, stderr):
            return Incomplete(f"the connection to {self} was lost ({last}); rows that were written are kept",
                              try_="the same command again, which continues from there")
        if code == 255 and last == "no message":  # how ssh reports that a signal ended what it ran
            return Incomplete(f"the program on {self} was killed there; rows that were written are kept",
                              try_="the same command again, when the board has memory to spare")
        if code == 255 and "forwarding" in stderr:
            return UserError(f"the port cannot be forwarded to {self} ({last}); expected one that is free here",
                             try_="--serve with another port")
        if code == 255:
            return BoardUnusable(f"{self} was not reached ({last}); expected a host that lets ssh in without "
                                 "questions", try_=f"{self.ssh}, which asks them")
        if code in (126, 127):
            return UserError(f"{self} has no interpreter {self.python!r} ({last})", try_="--python PATH")
        if "No space left" in stderr:
            return BoardUnusable(f"{self} has no room left in ~/{FOLDER} ({last}); nothing half-copied is there",
                                 try_=f"{self.ssh} rm -r {FOLDER}")
        return Incomplete(f"the program on {self} ended with code {code} ({last})")

    def _port(self) -> list[str]:
        return ["-p", str(self.port)] if self.port else []


class Line:
    """Our end of the pipe to a process: what is sent, and for a board every `BEAT_S` a sign that we are still there.

    Args:
        pipe: the process's stdin, as text.
        beats: whether to give signs, empty lines.
    """

    def __init__(self, pipe: IO[str], beats: bool) -> None:
        self._pipe, self._lock, self._closed = pipe, threading.Lock(), threading.Event()
        if beats:
            threading.Thread(target=self._beat, daemon=True).start()

    def send(self, text: str) -> None:
        """Send a line; where the process has ended, its exit code says more than this could."""
        with self._lock, suppress(BrokenPipeError, ValueError):
            self._pipe.write(f"{text}\n")
            self._pipe.flush()

    def close(self) -> None:
        """Say that no more comes, which ends the process."""
        self._closed.set()
        with self._lock, suppress(BrokenPipeError):
            self._pipe.close()

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_S):
            self.send("")


def board(text: str) -> Board:
    """Parse "ssh://[user@]host[:port]", for argparse."""
    found = re.fullmatch(r"ssh://((?:[\w.-]+@)?(?:[\w.]|\[[0-9a-fA-F:]+\])[\w.-]*)(?::(\d{1,5}))?/?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no board; expected ssh://[user@]host[:port]")
    return Board(found[1], int(found[2]) if found[2] else None)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--on` and `--python`; read them by `wanted`."""
    parser.add_argument("--on", type=board, metavar="ssh://[user@]host[:port]",
                        help="a board to run this on; default: this machine")
    parser.add_argument("--python", metavar="PATH", help="the interpreter on the board; default: python3")


def wanted(args: argparse.Namespace) -> Board | None:
    """The board that the flags name; None for this machine."""
    if args.on is None and args.python is not None:
        raise UserError(f"--python {args.python} goes with --on, the board that the interpreter is on")
    on: Board | None = args.on
    return on and replace(on, python=args.python or on.python)
