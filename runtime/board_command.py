"""Run a command of ours on a board, and fetch the files that it makes.

    python -m runtime out/lraspp-360x480-fp32.onnx --source 0 --masks out/masks --on ssh://pi@board.local

Both ends are here. The board's gives the command a folder of its own, sends each finished file as an entry of one tar
stream on stdout, and deletes it there; what the command prints on stderr comes as it is printed, its stdout at the end.
When our pipe is closed or silent, as after Ctrl-C or a lost connection, it ends the command and removes the folder.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import IO

from runtime.board import SILENCE_S, Board, Line
from runtime.errors import Incomplete, UserError
from runtime.files import in_one_piece
from runtime.signals import Held, stoppable

OUT = "@out"
"""Stands for the command's folder on the board, in the words that it gets."""
STDOUT = "stdout"
"""The entry that holds the command's stdout."""
LIVE = ("masks",)
"""Folders whose files are finished as soon as they have their names, and are sent at once; all others at the end."""
BLOCK = 512
"""Bytes of tar's unit; both ends of the stream work by it, so that no file waits for the next one."""
FINISH_S = 20.0
"""So long a command may take to finish its files after it was asked to end."""


def run_there(on: Board, code: str, name: str, words: Sequence[str], places: Mapping[str, Path],
              forward: int | None = None) -> None:
    """Run a command on a board.

    Args:
        on: the board.
        code: the folder of our code there; see `runtime.board_files.prepare`.
        name: the command as a person types it after `python -m`, e.g. "benchmarks pipeline".
        words: its arguments; `OUT`/PLACE/FILE is a file that it makes.
        places: PLACE → the folder here that its files go to.
        forward: as in `Board.command`.

    Raises:
        UserError, Incomplete: what the command there ended with, or that the board or the connection failed.
    """
    command = on.command("-m", "runtime.board_command", *name.split(), *words, folder=code, forward=forward)
    kept: deque[str] = deque(maxlen=50)
    # A session of its own: Ctrl-C in the terminal is for us, who let the command there end in peace.
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        line = Line(io.TextIOWrapper(process.stdin), beats=True)
        listener = threading.Thread(target=_listen, args=(io.TextIOWrapper(process.stderr, errors="replace"), kept))
        listener.start()
        try:
            with Held() as hold:
                hold.then(line.close)
                whole = _receive(process.stdout, places)
                ended = process.wait()
        finally:
            process.kill()
            listener.join()
            line.close()
    reported = next((text for text in kept if text.startswith(f"{name}: error: ")), "")
    if reported and ended in (1, 2):
        raise {1: Incomplete, 2: UserError}[ended](f"{on}: {reported.strip().removeprefix(f'{name}: error: ')}")
    if ended or not whole:
        raise on.broken(ended, "".join(kept))


def _listen(stream: IO[str], kept: deque[str]) -> None:
    """Pass on what it writes to stderr, but for errors, which become ours."""
    for line in stream:
        kept.append(line)
        if ": error: " not in line:
            print(line, end="", file=sys.stderr, flush=True)


def _receive(stream: IO[bytes], places: Mapping[str, Path]) -> bool:
    """Put every file into its place; a board may name no other. Whether the last one, `STDOUT`, came."""
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as archive:
            for entry in archive:
                content = archive.extractfile(entry) if entry.isreg() else None
                place, _, name = entry.name.partition("/")
                known = entry.name == STDOUT or (place in places and name)
                if content is None or not known or "/" in name or name.startswith("."):
                    raise Incomplete(f"the board sent {entry.name[:80]!r}, which was not requested; files that "
                                     "came before it are kept")
                if entry.name == STDOUT:
                    sys.stdout.write(content.read().decode(errors="replace"))
                    return True
                places[place].mkdir(parents=True, exist_ok=True)
                with in_one_piece(places[place] / name) as temporary, temporary.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except tarfile.TarError:
        pass  # cut short: how the process ended says why
    return False


def flags(parser: argparse.ArgumentParser, values: Mapping[str, object]) -> list[str]:
    """What to type for a parser to get these values; defaults are left out."""
    found: list[str] = []
    for action in parser._actions:
        value = values.get(action.dest)
        if value is None or value is False or value == action.default:
            continue
        text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)  # a size
        found += [*action.option_strings[-1:], *([] if value is True else [text])]
    return found


def serve(words: Sequence[str]) -> int:
    """The board's end: run `python -m` with `words`, send its files, leave nothing. Returns its exit code."""
    work = Path(tempfile.mkdtemp(prefix=f".{os.getpid()}.", dir="..")).resolve()
    command = [sys.executable, "-m", *(str(work) + word.removeprefix(OUT) if word.startswith(OUT) else word
                                       for word in words)]
    child = None
    try:
        for word in words:
            if word.startswith(f"{OUT}/"):
                (work / word.removeprefix(f"{OUT}/")).parent.mkdir(parents=True, exist_ok=True)
        with (work / STDOUT).open("wb") as stdout:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout)
        code = _attend(child, lambda: _send(work, [path for live in LIVE for path in _files(work / live)]))
        _send(work, [path for path in _files(work) if path.name != STDOUT])
        _send(work, [work / STDOUT])
        return code
    finally:
        if child is not None:
            child.kill()
            child.wait()  # killed is not yet gone: it may still write into the folder
        shutil.rmtree(work, ignore_errors=True)


def _attend(child: subprocess.Popen[bytes], send: Callable[[], object]) -> int:
    """Wait for the command, and end it when the other end is gone; `send` is called every now and then."""
    heard, end_by = monotonic(), math.inf
    while child.poll() is None:
        listening = end_by == math.inf
        if select.select([0] if listening else [], [], [], 0.3)[0]:
            heard = monotonic() if os.read(0, 4096) else -math.inf  # nothing to read is the pipe's end
        if listening and monotonic() - heard > SILENCE_S:
            child.terminate()
            end_by = monotonic() + FINISH_S
        if monotonic() > end_by:
            child.kill()
        send()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _files(folder: Path) -> list[Path]:
    """Finished files below a folder; unfinished ones have hidden names."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _send(work: Path, paths: Sequence[Path]) -> None:
    """Send files and delete them. A reader that takes nothing for too long is gone: SIGALRM breaks the write off.

    Each is an entry of a tar stream by hand, as `TarFile` keeps the end of one until the next.
    """
    out = sys.stdout.buffer
    for path in paths:
        entry = tarfile.TarInfo(path.relative_to(work).as_posix())
        entry.size = path.stat().st_size
        signal.alarm(SILENCE_S)
        with path.open("rb") as file:
            out.write(entry.tobuf())
            shutil.copyfileobj(file, out)
            out.write(bytes(-entry.size % BLOCK))
            out.flush()
        signal.alarm(0)
        path.unlink()


def _silent(number: int, frame: object) -> None:
    raise TimeoutError("the other end does not read what is sent")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, _silent)
    with stoppable():
        sys.exit(serve(sys.argv[1:]))
