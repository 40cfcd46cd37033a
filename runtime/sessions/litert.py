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

PRODUCTS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "FULLY_CONNECTED", "BATCH_MATMUL"}
"""Operators of a file that sum up products; XNNPACK has words of its own for them."""
PRODUCTS_IN_XNNPACK = ("Convolution", "Deconvolution", "Fully Connected", "Matrix Multiply")

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


def bare_interpreter(model: Path | bytes, **more: Any) -> Any:
    """An interpreter in which no delegate takes part: its tensors and operators are those of the file.

    Args:
        model: the file's path, or its contents.
        more: of the interpreter's own arguments.
    """
    lite = library()
    return lite.Interpreter(
        **_given(model), **more,
        experimental_op_resolver_type=lite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


def _given(model: Path | bytes) -> dict[str, str | bytes]:
    return {"model_content": model} if isinstance(model, bytes) else {"model_path": os.fspath(model)}


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
        try:
            self._interpreter: Any = interpreter(**_given(model), num_threads=threads or cores())
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


def kernels(path: Path, x: npt.NDArray[np.uint8], runs: int) -> list[tuple[list[str], float]]:
    """Names and median milliseconds of each convolution or matrix product with all that runs before the next one; see
    `calibration.judge.costs`.

    XNNPACK lists its operators by kind, in the order of the file, with others fused into them. Products are never
    fused, so that the n-th of them is the n-th of the file, and lends its tensor's name to what follows. What
    runs before the first bears the name of the graph's input.

    Raises:
        UserError: LiteRT does not profile as it should, or ran another number of products than the file has.
    """
    from runtime.sessions._litert_profile import operators

    measured = operators(Path(library().__file__).with_name("libLiteRt.so"), path, x, cores(), runs)
    plain = bare_interpreter(path)
    tensors = {entry["index"]: entry["name"] for entry in plain.get_tensor_details()}
    names = [tensors[op["outputs"][0]] for op in plain._get_ops_details() if op["op_name"] in PRODUCTS]
    starts = [kind in PRODUCTS or any(word in kind for word in PRODUCTS_IN_XNNPACK) for kind, _ in measured]
    if sum(starts) != len(names):
        raise UserError(f"LiteRT ran {sum(starts)} convolutions and matrix products of {path.name}, which has "
                        f"{len(names)}; expected the same number, as operators are matched by their order")
    found = [([plain.get_input_details()[0]["name"]], 0.0), *(([name], 0.0) for name in names)]
    place = 0
    for start, (_, ms) in zip(starts, measured):
        place += start
        found[place] = (found[place][0], found[place][1] + ms)
    return found
