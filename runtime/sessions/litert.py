"""LiteRT on the CPU, through XNNPACK: `.tflite` files on Arm boards as on x86. No TensorFlow, no torch."""

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
from runtime.tune import cores

ENGINE = Engine("LiteRT", reads=("litert",), packages=("ai-edge-litert",), extra="litert")


def library() -> Any:
    """The interpreter's module.

    Raises:
        MissingLibrary: ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert import interpreter
    except ImportError as error:
        raise MissingLibrary("ai-edge-litert", "running .tflite files", "litert") from error
    return interpreter


class LitertSession:
    """One loaded .tflite file, for one thread at a time; every `run` returns fresh memory.

    Args:
        model: the file's path, or its contents.
        threads: threads within one frame; None for one per core, as LiteRT by itself takes a single one.
    """

    reuses_output = False

    def __init__(self, model: Path | bytes, *, threads: int | None = None) -> None:
        interpreter = library().Interpreter
        name = "the model" if isinstance(model, bytes) else str(model)
        given = {"model_content": model} if isinstance(model, bytes) else {"model_path": os.fspath(model)}
        try:
            self._interpreter: Any = interpreter(**given, num_threads=threads or cores())
            self._interpreter.allocate_tensors()
        except ValueError as error:
            raise UserError(f"LiteRT cannot load {name} ({_last_line(error)})",
                            try_="export it again; the file may be cut short") from error
        except RuntimeError as error:
            raise UserError(f"LiteRT cannot run {name} ({_last_line(error)}); expected operators that it has",
                            try_="pip install --upgrade ai-edge-litert") from error
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def ports(self) -> tuple[list[Port], list[Port]]:
        """The graph's inputs and outputs, as the interpreter reads them."""
        both = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        inputs, outputs = ([Port(entry["name"], tuple(map(int, entry["shape"])), entry["dtype"].__name__)
                            for entry in entries] for entries in both)
        return inputs, outputs

    def run(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """uint8 [1, H, W, 3] BGR → the graph's output."""
        self._interpreter.set_tensor(self._input, x)
        self._interpreter.invoke()
        y: npt.NDArray[Any] = self._interpreter.get_tensor(self._output)
        return y

    def close(self) -> None:
        """Release the graph."""
        self._interpreter = None


def _last_line(error: Exception) -> str:
    """Where LiteRT says what is wrong, and names the operator."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]


def open(artifact: Artifact, path: Path, *, threads: int | None = None) -> LitertSession:
    """Open an artifact's `.tflite` file; see `runtime.sessions.open_session`."""
    session = LitertSession(path, threads=threads)
    hold_against_engine(artifact, *session.ports())
    return session
