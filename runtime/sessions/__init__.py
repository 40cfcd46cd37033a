"""The engines of this runtime: one file each, found by listing this folder, opened through `open_session`.

A file holds `ENGINE`, what everybody else needs to know of it, and `open(artifact, path, *, threads=None)`.
Importing it imports no engine. A file whose name begins with an underscore belongs to its neighbours and is no engine.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact
from runtime.errors import UserError
from runtime.forms import PORTABLE, Form


class Session(Protocol):
    """An opened engine.

    Attributes:
        reuses_output: True when the next `run` overwrites the array that the last one returned.
    """

    reuses_output: bool

    def run(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """uint8 [1, H, W, 3] BGR → the artifact's output tensor, batch dimension included."""
        ...

    def close(self) -> None:
        """Release the engine and its memory. A second call does nothing."""
        ...


def _nothing() -> str:
    return ""


@dataclass(frozen=True)
class Engine:
    """What everybody else needs to know of one engine.

    Attributes:
        title: its name for people.
        reads: the formats that it opens, as artifacts name them (`Artifact.target`).
        packages: distributions that it takes.
        one_of: distributions of which one is enough.
        extra: the extra of pyproject.toml that brings them; "" for the base install.
        lacks: what else this machine lacks for it, in words; "" when nothing. Called on demand.
        integers: of the INT8 graphs that it computes rightly (`Artifact.integers`); it is given no others.
        form: of the INT8 graphs that it computes best.
    """

    title: str
    reads: tuple[str, ...]
    packages: tuple[str, ...]
    extra: str = ""
    one_of: tuple[str, ...] = ()
    lacks: Callable[[], str] = _nothing
    integers: tuple[str, ...] = ("", "signed")
    form: Form = PORTABLE

    def hindrance(self) -> str:
        """Why it cannot run here, and what to type; "" when it can."""
        return self.lacks() or missing(self.packages, self.extra, self.one_of)

    def versions(self) -> dict[str, str]:
        """Version of everything installed that takes part."""
        return installed(self.packages + self.one_of)


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Version of each distribution that is installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def missing(packages: tuple[str, ...], extra: str, one_of: tuple[str, ...] = ()) -> str:
    """Which distributions are not installed, and the extra that brings them; "" when all are there."""
    absent = [package for package in packages if package not in installed(packages)]
    absent += [" or ".join(one_of)] if one_of and not installed(one_of) else []
    return f"{', '.join(absent)} not installed: pip install 'edgeseg{f'[{extra}]' if extra else ''}'" if absent else ""


@cache
def engines() -> dict[str, Engine]:
    """Name, as `--engine` takes it, → engine."""
    stems = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return {stem.replace("_", "-"): importlib.import_module(f"runtime.sessions.{stem}").ENGINE for stem in stems}


def readers(target: str) -> list[str]:
    """Names of the engines that open a target's files; the target's own one first."""
    return sorted((name for name, engine in engines().items() if target in engine.reads),
                  key=lambda name: (name != target, name))


def engine_for(artifact: Artifact, engine: str | None = None) -> str:
    """The engine that opens an artifact.

    Args:
        artifact: what the JSON says.
        engine: the one that was asked for; None for the target's own.

    Raises:
        UserError: this runtime has none for its format, there is none of that name, it does not read such files, or it
            would misread their integers.
    """
    able = readers(artifact.target)
    if not able:
        formats = sorted({name for entry in engines().values() for name in entry.reads})
        raise UserError(f"the artifact's target is {artifact.target!r}; this runtime opens {', '.join(formats)}")
    if engine is not None and engine not in able:
        raise UserError(f"--engine {engine} does not read {artifact.file}; expected {' or '.join(able)}")
    name = engine or able[0]
    if artifact.integers not in engines()[name].integers:
        raise UserError(f"{artifact.file} has {artifact.integers} integers; {engines()[name].title} would misread "
                        "them, and takes signed ones",
                        try_=f"python -m calibration {artifact.name} --data DIR, whose file every engine reads")
    return name


def open_session(artifact: Artifact, path: Path, *, engine: str | None = None, threads: int | None = None) -> Session:
    """Open an artifact's file in an engine.

    Args:
        artifact: what the JSON says.
        path: the file or folder, hash already checked by `open_artifact`.
        engine: another engine than the target's own; see `engine_for`.
        threads: threads that the engine may use for one frame; None lets the engine decide. GPU engines ignore it.

    Raises:
        UserError: no such engine here, or it refuses the file.
    """
    name = engine_for(artifact, engine).replace("-", "_")
    session: Session = importlib.import_module(f"runtime.sessions.{name}").open(artifact, path, threads=threads)
    return session
