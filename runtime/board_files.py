"""What goes to a board before anything runs there: our code, artifacts and frames, each once, under its hash.

The code travels as a folder of files and not as one zip archive: engines are found by listing `runtime/sessions/`, and
a board that imports from a folder compiles each module once, from an archive at every start. What the board lacks is
reported before anything is copied; a copy that breaks off leaves nothing that a later run could take for whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.board import FOLDER, Board
from runtime.errors import BoardUnusable, UserError

HERE = Path(__file__).parent.parent
OLDEST_PYTHON = (3, 10)
ROOM_MB = 50
"""Free space that must be left after everything was copied."""
NEEDED = {"numpy": "numpy", "cv2": "opencv-python-headless", "msgspec": "msgspec"}
"""Modules that the runtime needs, and what pip calls them."""

CODE = ("runtime/**/*.py", "benchmarks/*.py", "calibration/__init__.py", "calibration/data/__init__.py",
        "calibration/data/frames.py")
"""What runs there, and what measures there."""

PROBE = """
import importlib.util, json, os, shutil, sys
from importlib.metadata import distributions
wanted = json.loads(sys.argv[1])
os.makedirs(wanted["folder"], exist_ok=True)
for name in os.listdir(wanted["folder"]):
    if name.startswith("."):  # a process's own; where that was killed, or the board lost its power, it is left over
        try:
            os.kill(int(name.split(".")[1]), 0)
        except (OSError, ValueError):
            shutil.rmtree(os.path.join(wanted["folder"], name), ignore_errors=True)
installed = {(found.metadata["Name"] or "").lower().replace("_", "-") for found in distributions()}
print(json.dumps({"version": sys.version_info[:3], "free_mb": shutil.disk_usage(wanted["folder"]).free / 1e6,
                  "absent": [name for name in wanted["modules"] if importlib.util.find_spec(name) is None] +
                            [names[0] for names in wanted["packages"] if not installed & set(names)],
                  "there": [path for path in wanted["files"] if os.path.exists(os.path.join(wanted["folder"], path))]}))
"""

RECEIVE = """
import os, shutil, sys, tarfile, tempfile
folder = sys.argv[1]
growing = tempfile.mkdtemp(prefix=".%d." % os.getpid(), dir=folder)
try:
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        archive.extractall(growing)
    os.sync()  # a name that is there must mean that its data are, also after the power went
    for name in os.listdir(growing):
        if not os.path.exists(os.path.join(folder, name)):
            os.rename(os.path.join(growing, name), os.path.join(folder, name))
except (OSError, tarfile.TarError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
finally:
    shutil.rmtree(growing, ignore_errors=True)
"""


def artifact_files(path: Path, engine: str | None) -> tuple[list[Path], list[list[str]]]:
    """What an artifact takes on a board.

    Args:
        path: the engine file or its JSON.
        engine: as in `Segmenter.open`.

    Returns:
        The engine file and its JSON; and the distributions that the engine needs, of each group one.

    Raises:
        UserError: the artifact is damaged.
    """
    from runtime.artifact import json_path, open_artifact
    from runtime.sessions import engine_for

    artifact, file = open_artifact(path)
    return [file, json_path(file)], engine_packages(engine_for(artifact, engine))


def engine_packages(engine: str) -> list[list[str]]:
    """The distributions that an engine needs, of each group one."""
    from runtime.sessions import engines

    entry = engines()[engine]
    return [[name] for name in entry.packages] + ([list(entry.one_of)] if entry.one_of else [])


def source_files(source: str) -> list[Path]:
    """The files here that a source of frames is made of: a video, or the images of a folder; none where it is a camera,
    an address, or something else that is not here.

    Raises:
        UserError: the folder holds no images.
    """
    from runtime.video import image_paths

    path = Path(source)
    return [path] if path.is_file() else image_paths(path) if path.is_dir() else []


def prepare(on: Board, groups: Sequence[Sequence[Path]] = (),
            packages: Sequence[Sequence[str]] = ()) -> tuple[str, list[str]]:
    """Bring the code and files to a board, as far as they are not there yet.

    Args:
        on: the board.
        groups: files, or folders of them, that must lie together, such as an engine and its JSON; each group is one
            folder there.
        packages: distributions that are needed beside `NEEDED`; of each group one.

    Returns:
        The folder of the code, below the home folder there; and that of each group, as seen from the code.

    Raises:
        UserError: the board cannot be reached, or lacks Python, packages or space.
    """
    code = {path.relative_to(HERE).as_posix(): path.read_bytes() for pattern in CODE for path in HERE.glob(pattern)}
    folders = [{file.relative_to(path.parent).as_posix(): file.read_bytes() for path in group
                for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()} for group in groups]
    names = {_digest(files): files for files in [code, *folders]}
    asked = {"folder": FOLDER, "modules": list(NEEDED), "packages": packages, "files": list(names)}
    probe = json.loads(on.run("-c", PROBE, json.dumps(asked)))
    absent = {name: files for name, files in names.items() if name not in probe["there"]}
    _check(on, probe, sum(len(data) for files in absent.values() for data in files.values()) / 1e6)
    if absent:
        on.run("-c", RECEIVE, FOLDER, given=_packed(absent))
    return f"{FOLDER}/{_digest(code)}", [f"../{_digest(files)}" for files in folders]


def _check(on: Board, probe: dict[str, Any], needed_mb: float) -> None:
    """Hold what was found on the board against what is needed there."""
    if tuple(probe["version"]) < OLDEST_PYTHON:
        raise UserError(f"{on} has Python {'.'.join(map(str, probe['version']))}; expected "
                        f"{'.'.join(map(str, OLDEST_PYTHON))} or later", try_="--python PATH")
    if probe["absent"]:
        wheels = shlex.join(NEEDED.get(name, name) for name in probe["absent"])
        raise UserError(f"the Python of {on} lacks {', '.join(probe['absent'])}",
                        try_=f"{on.ssh} {on.python} -m pip install {wheels}")
    if probe["free_mb"] < needed_mb + ROOM_MB:
        raise BoardUnusable(f"{on} has {probe['free_mb']:.0f} MB free in ~/{FOLDER}; expected "
                            f"{needed_mb + ROOM_MB:.0f} MB",
                            try_=f"{on.ssh} rm -r {FOLDER}, which removes what earlier runs copied")


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
