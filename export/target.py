"""What everybody else needs to know of one target, and which targets there are: the folders here that hold a `TARGET`.

A target's package is `export/<name>/`. Its `__init__.py` holds `TARGET`, `build(job)` and `reopen(artifact, path)`, and
imports nothing heavy; `__main__.py` is its command. Nothing outside of it and of `runtime/sessions/` names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from runtime.errors import UserError
from runtime.sessions import engines, missing, readers

if TYPE_CHECKING:
    from export.request import Request
    from runtime.artifact import Artifact
    from runtime.sessions import Session

HOST = ("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime")
"""Distributions that every export takes."""

Say = Callable[[str], None]


class Judged(str, Enum):
    """How an artifact can be judged on this machine."""

    RUN = "run"  # in its own engine: time and accuracy
    EVALUATED = "evaluated"  # by a reference of ours that computes what its engine would: accuracy
    BUILT = "built, not executed"  # only by what the file states


@dataclass(frozen=True)
class Problem:
    """A combination that is known not to work, and what to type."""

    what: str
    fix: str


@dataclass(frozen=True)
class Target:
    """What everybody else needs to know of one target.

    Attributes:
        title: its name for people.
        ending: of the file or folder that it makes.
        source: what a build starts from: "torch", or the name of the target whose artifact it takes.
        precisions: that it offers, the default first.
        outputs: values of `OutputKind` that it offers, the default first.
        packages: distributions that a build takes beside `HOST`.
        extra: the extra of pyproject.toml that brings them.
        without_engine: how its artifacts can be judged where no engine runs them.
        never_executed: what has not been executed yet, for the table in the README; "" for nothing.
        lacks: what else this machine lacks for a build, in words; "" for nothing.
        remark: what is worth knowing of a build on this machine, in words.
        problems: combinations on this machine that are known not to work.
    """

    title: str
    ending: str
    source: str
    precisions: tuple[str, ...]
    outputs: tuple[str, ...]
    packages: tuple[str, ...]
    extra: str
    without_engine: Judged = Judged.BUILT
    never_executed: str = ""
    lacks: Callable[[], str] = lambda: ""
    remark: Callable[[], str] = lambda: ""
    problems: Callable[[], Sequence[Problem]] = tuple

    def hindrance(self) -> str:
        """Why nothing can be built here, and what to type; "" when it can."""
        return missing(HOST, "export") or missing(self.packages, self.extra) or self.lacks()


@dataclass(frozen=True)
class Job:
    """What is to be exported, the same for every target.

    Attributes:
        request: the network with its weights, precision and output.
        out: folder for the artifact; made when missing.
        frames: folder of images to verify on; None for frames that we draw.
        calibration: folder of images for INT8's ranges; see `calibration.judge.measure.find_data`.
        allow_few: fewer than 32 of them will do.
        data: folder with images/ and labels/ to measure mIoU on; None for no measurement.
        max_frames: labelled frames to measure on, evenly sampled; None for all.
        max_drop: points of mIoU, 0..100, that may be lost against the float network on `data`.
        say: receives one line per step.
        form: the engine in whose best form an INT8 graph is written; "" for the form that all engines read.
    """

    request: Request
    out: Path
    frames: Path | None = None
    calibration: Path | None = None
    allow_few: bool = False
    data: Path | None = None
    max_frames: int | None = None
    max_drop: float = 1.0
    say: Say = lambda line: None
    form: str = ""


@cache
def packages() -> dict[str, ModuleType]:
    """Name → package, of every folder here that holds a target; sorted."""
    folders = sorted(path.parent.name for path in Path(__file__).parent.glob("*/__init__.py"))
    modules = {name: importlib.import_module(f"export.{name}") for name in folders}
    return {name: module for name, module in modules.items() if hasattr(module, "TARGET")}


def targets() -> dict[str, Target]:
    """Name, as `python -m export.<name>` has it, → target."""
    return {name: package.TARGET for name, package in packages().items()}


def target(name: str) -> Target:
    """One target.

    Raises:
        UserError: there is none of that name.
    """
    if name not in targets():
        raise UserError(f"there is no target {name!r}; known: {', '.join(targets())}")
    return targets()[name]


def reopen(artifact: Artifact, path: Path) -> Session | None:
    """A session that judges an artifact on this machine: its engine, or the target's reference; None for neither."""
    session: Session | None = packages()[artifact.target].reopen(artifact, path)
    return session


def judged(name: str) -> Judged:
    """How a target's artifacts can be judged on this machine."""
    runs = any(not engines()[engine].hindrance() for engine in readers(name))
    return Judged.RUN if runs else target(name).without_engine
