"""The device half of each target: one file per engine, opened through `open_session`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact
from runtime.errors import UserError


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


def open_session(artifact: Artifact, engine: Path, *, threads: int | None = None) -> Session:
    """Open an engine with the session that its target names: `runtime/sessions/<target>.py`.

    Args:
        artifact: what the JSON says.
        engine: the engine's path, hash already checked by `open_artifact`.
        threads: threads that the engine may use for one frame; None lets the engine decide. GPU engines ignore it.

    Raises:
        UserError: no session for that target here, or the engine refuses the file.
    """
    known = targets()
    if artifact.target not in known:
        raise UserError(f"the artifact's target is {artifact.target!r}; this runtime opens {', '.join(known)}")
    module = importlib.import_module(f"runtime.sessions.{artifact.target}")
    session: Session = module.open(artifact, engine, threads=threads)
    return session


def targets() -> list[str]:
    """Names of the engines that have a session file here."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem != "__init__")
