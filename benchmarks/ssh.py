"""A board reached over ssh: what it lacks is told before anything begins, what it needs is copied once.

    python -m benchmarks latency out/lraspp-360x480-int8.onnx --on ssh://pi@board.local --quick

This is the system's OpenSSH, so its config, keys and known hosts hold; it asks no questions. On the board everything
lies in `FOLDER` below the home folder: the code that measures, and artifacts and frames, each under its hash. A process
there lives as long as the connection; what was copied stays, for the next time.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import shlex
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtime.errors import Incomplete, UserError

HERE = Path(__file__).parent.parent
FOLDER = ".cache/edgeseg/board"
OLDEST_PYTHON = (3, 10)
FRAMES = 4
"""Images that a benchmark runs on."""
ROOM_MB = 50
"""Free space that must be left after everything was copied."""
NEEDED = {"numpy": "numpy", "cv2": "opencv-python-headless", "msgspec": "msgspec"}
"""Modules that the runtime needs, and what pip calls them."""
OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3")
"""Ask nothing, and notice within a quarter of a minute that the board is gone."""

CODE = ("runtime/**/*.py", "benchmarks/__init__.py", "benchmarks/worker.py", "benchmarks/machine.py",
        "calibration/__init__.py", "calibration/data/__init__.py", "calibration/data/frames.py")
"""What measures there."""

PROBE = """
import importlib.util, json, os, shutil, sys
from importlib.metadata import distributions
wanted = json.loads(sys.argv[1])
os.makedirs(wanted["folder"], exist_ok=True)
installed = {(found.metadata["Name"] or "").lower().replace("_", "-") for found in distributions()}
print(json.dumps({"version": sys.version_info[:3], "free_mb": shutil.disk_usage(wanted["folder"]).free / 1e6,
                  "absent": [name for name in wanted["modules"] if importlib.util.find_spec(name) is None] +
                            [names[0] for names in wanted["packages"] if not installed & set(names)],
                  "there": [path for path in wanted["files"] if os.path.exists(os.path.join(wanted["folder"], path))]}))
"""

RECEIVE = """
import os, shutil, sys, tarfile, tempfile
folder = sys.argv[1]
growing = tempfile.mkdtemp(prefix=".", dir=folder)
try:
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        archive.extractall(growing)
    for name in os.listdir(growing):
        if not os.path.exists(os.path.join(folder, name)):
            os.rename(os.path.join(growing, name), os.path.join(folder, name))
except (OSError, tarfile.TarError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
finally:
    shutil.rmtree(growing, ignore_errors=True)
"""


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

    def __str__(self) -> str:
        return f"ssh://{self.host}" + (f":{self.port}" if self.port else "")

    def command(self, *words: str, folder: str | None = None) -> list[str]:
        """The local command that runs the board's interpreter with `words`, in `folder` there."""
        there = shlex.join([self.python, *words])
        if folder:
            there = f"cd {shlex.quote(folder)} && exec {there}"
        return ["ssh", "-T", *(part for option in OPTIONS for part in ("-o", option)),
                *(["-p", str(self.port)] if self.port else []), "--", self.host, there]

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

    def broken(self, code: int, said: str) -> UserError | Incomplete:
        """What it means that a command on the board ended with `code` and `said` this on stderr."""
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "no message")
        again = shlex.join(["ssh", *(["-p", str(self.port)] if self.port else []), self.host])
        if code == 255 and re.search("Connection to .* closed|Broken pipe|Timeout, server", said):
            return Incomplete(f"the connection to {self} was lost ({last}); what was measured before is kept",
                              try_="the same command again, which goes on from there")
        if code == 255:
            return UserError(f"{self} was not reached ({last}); expected a host that lets ssh in without questions",
                             try_=f"{again}, which asks them")
        if code in (126, 127):
            return UserError(f"{self} has no interpreter {self.python!r} ({last})", try_="--python PATH")
        if "No space left" in said:
            return UserError(f"{self} has no room left in ~/{FOLDER} ({last}); nothing half-copied is there",
                             try_=f"{again} rm -r {FOLDER}")
        return Incomplete(f"the program on {self} ended with code {code} ({last})")


def board(text: str) -> Board:
    """Parse "ssh://[user@]host[:port]", for argparse."""
    found = re.fullmatch(r"ssh://((?:[\w.-]+@)?(?:[\w.]|\[[0-9a-fA-F:]+\])[\w.-]*)(?::(\d{1,5}))?/?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no board; expected ssh://[user@]host[:port]")
    return Board(found[1], int(found[2]) if found[2] else None)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--on` and `--python`; read them by `wanted`."""
    parser.add_argument("--on", type=board, metavar="ssh://[user@]host[:port]",
                        help="a board to measure on; default: this machine")
    parser.add_argument("--python", metavar="PATH", help="the interpreter on the board; default: python3")


def wanted(args: argparse.Namespace) -> Board | None:
    """The board that the flags name; None for this machine."""
    if args.on is None and args.python is not None:
        raise UserError(f"--python {args.python} goes with --on, the board that the interpreter is on")
    on: Board | None = args.on
    return on and replace(on, python=args.python or on.python)


def carry(on: Board, path: Path, engine: str | None, frames: Path | None) -> tuple[str, str, str | None]:
    """Bring an artifact and what runs it to a board.

    Args:
        on: the board.
        path: the engine file or its JSON.
        engine: as in `Segmenter.open`.
        frames: folder of images, of which `FRAMES` go; None for none.

    Returns:
        The folder of the code; and seen from there, the engine file and the folder of the frames.

    Raises:
        UserError: the board cannot be reached, lacks Python, packages or space, or the artifact is damaged.
    """
    from calibration.data.frames import evenly_spaced
    from runtime.artifact import json_path, open_artifact
    from runtime.sessions import engine_for, engines
    from runtime.video import image_paths

    artifact, file = open_artifact(path)
    if file.is_dir():
        raise UserError(f"{file} is a folder; boards take artifacts of one file")
    entry = engines()[engine_for(artifact, engine)]
    groups = [[file, json_path(file)], *([evenly_spaced(image_paths(frames), FRAMES)] if frames else [])]
    packages = [[name] for name in entry.packages] + ([list(entry.one_of)] if entry.one_of else [])
    code, folders = prepare(on, groups, packages)
    there = [f"../{Path(folder).name}" for folder in folders]
    return code, f"{there[0]}/{file.name}", there[1] if frames else None


def prepare(on: Board, groups: Sequence[Sequence[Path]],
            packages: Sequence[Sequence[str]] = ()) -> tuple[str, list[str]]:
    """Bring the code and files to a board, as far as they are not there yet.

    Args:
        on: the board.
        groups: files that must lie together, such as an engine and its JSON; each group is one folder there.
        packages: distributions that the engine needs beside `NEEDED`; of each group one.

    Returns:
        The folder of the code, and that of each group, all below the home folder there.

    Raises:
        UserError: the board cannot be reached, or lacks Python, packages or space.
    """
    code = {path.relative_to(HERE).as_posix(): path.read_bytes() for pattern in CODE for path in HERE.glob(pattern)}
    folders = [{path.name: path.read_bytes() for path in group} for group in groups]
    names = {_digest(files): files for files in [code, *folders]}
    asked = {"folder": FOLDER, "modules": list(NEEDED), "packages": packages, "files": list(names)}
    probe = json.loads(on.run("-c", PROBE, json.dumps(asked)))
    absent = {name: files for name, files in names.items() if name not in probe["there"]}
    _check(on, probe, sum(len(data) for files in absent.values() for data in files.values()) / 1e6)
    if absent:
        on.run("-c", RECEIVE, FOLDER, given=_packed(absent))
    first, *others = (f"{FOLDER}/{_digest(files)}" for files in [code, *folders])
    return first, others


def _check(on: Board, probe: dict[str, Any], needed_mb: float) -> None:
    """Hold what was found on the board against what is needed there."""
    if tuple(probe["version"]) < OLDEST_PYTHON:
        raise UserError(f"{on} has Python {'.'.join(map(str, probe['version']))}; expected "
                        f"{'.'.join(map(str, OLDEST_PYTHON))} or later", try_="--python PATH")
    if probe["absent"]:
        wheels = shlex.join(NEEDED.get(name, name) for name in probe["absent"])
        raise UserError(f"the Python of {on} lacks {', '.join(probe['absent'])}",
                        try_=f"ssh {on.host} {on.python} -m pip install {wheels}")
    if probe["free_mb"] < needed_mb + ROOM_MB:
        raise UserError(f"{on} has {probe['free_mb']:.0f} MB free in ~/{FOLDER}; expected {needed_mb + ROOM_MB:.0f} MB",
                        try_=f"ssh {on.host} rm -r {FOLDER}, which removes what earlier runs copied")


def _digest(files: dict[str, bytes]) -> str:
    """Name of a folder with these files."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


def _packed(folders: dict[str, dict[str, bytes]]) -> bytes:
    """A tar archive of folders."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for folder, files in folders.items():
            for name, data in files.items():
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
