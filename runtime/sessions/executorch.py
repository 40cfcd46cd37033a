"""ExecuTorch on the CPU: `.pte` files, through XNNPACK.

Phones run them from Java, Swift or C++ without torch; the Python binding takes and returns torch's tensors, and so
needs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact
from runtime.contract import Port, hold_against_engine
from runtime.errors import MissingLibrary, UserError
from runtime.sessions import Engine

ENGINE = Engine("ExecuTorch", reads=("executorch",), packages=("executorch", "torch"), extra="executorch")

NAMES = ("frame", "result")
"""Of input and output: a program knows them by position alone."""


def library() -> tuple[Any, Any]:
    """The binding, and torch. The public module around the binding imports the exporter, which takes seconds.

    Raises:
        MissingLibrary: one of them is not installed.
    """
    try:
        import torch  # noqa: TID251  # the binding links against it, and speaks in its tensors
        from executorch.extension.pybindings import _C
    except ImportError as error:
        raise MissingLibrary(str(error.name), "running .pte files", "executorch") from error
    return _C, torch


class ExecutorchSession:
    """One loaded program, for one thread at a time.

    It reads planes of float32, so that a frame's bytes are spread into a buffer that every `run` uses again. The result
    lies in the program's own memory and is not copied.

    Args:
        model: the file's path, or its contents.
        threads: threads within one frame; None for ExecuTorch's own choice, one for each fast core. Its pool is the
            whole process's: the session that was opened last decides.
    """

    reuses_output = True

    def __init__(self, model: Path | bytes, *, threads: int | None = None) -> None:
        binding, torch = library()
        if threads:
            binding._unsafe_reset_threadpool(threads)
        name = "the model" if isinstance(model, bytes) else str(model)
        try:
            self._program: Any = (binding._load_program_from_buffer(model) if isinstance(model, bytes) else
                                  binding._load_program(os.fspath(model)))
            self._method: Any = self._program.load_method("forward")
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UserError(f"ExecuTorch cannot load {name} ({reason}); expected a program with operators that it has",
                            try_="export it again, or pip install --upgrade executorch") from error
        self._contents = model  # a program reads a buffer in place
        self._planes = np.empty(self._shape("input"), np.float32)
        self._inputs = [torch.from_numpy(self._planes)]

    def _shape(self, side: str) -> tuple[int, ...]:
        return tuple(getattr(self._method.method_meta(), f"{side}_tensor_meta")(0).sizes())

    def ports(self) -> tuple[list[Port], list[Port]]:
        """The program's tensors in the JSON's terms: a frame of bytes, and what comes of it."""
        _, channels, height, width = self._shape("input")
        return ([Port(NAMES[0], (1, height, width, channels), "uint8")],
                [Port(NAMES[1], self._shape("output"), "float32")])

    def run(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [1, H, W, 3] BGR → float32 [1, C, h, w], which the next `run` overwrites."""
        np.copyto(self._planes, x.transpose(0, 3, 1, 2))
        y: npt.NDArray[np.float32] = self._method(self._inputs, False)[0].numpy()  # False: do not clone
        return y

    def close(self) -> None:
        """Release the program; what `run` returned last goes with it."""
        self._method = self._program = None


def open(artifact: Artifact, path: Path, *, threads: int | None = None) -> ExecutorchSession:
    """Open an artifact's `.pte` file; see `runtime.sessions.open_session`."""
    session = ExecutorchSession(path, threads=threads)
    hold_against_engine(artifact, *session.ports())
    return session
