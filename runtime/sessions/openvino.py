"""OpenVINO on x86 and Arm CPUs: reads the same `.onnx` files, and is the engine whose INT8 kernels pay off there."""

from __future__ import annotations

import functools
import os
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact
from runtime.contract import Port, hold_against_engine
from runtime.errors import MissingLibrary, UserError
from runtime.forms import INTEGER_OPS, WEIGHTED, Form
from runtime.sessions import Engine

ENGINE = Engine("OpenVINO", reads=("onnx",), packages=("openvino",), extra="openvino",
                integers=("", "signed", "unsigned"),
                form=Form("unsigned", WEIGHTED, outputs=False, channels=True, zero_points="unless slower",
                          optional=INTEGER_OPS - WEIGHTED))


@functools.cache
def _core() -> Any:
    """One for the whole process, never released: a Core puts a signal stack in place of the one before and, when it
    goes, puts that back. Of two that go in the order in which they came, the second puts back the first one's, which is
    unmapped by then, and the next signal (Ctrl-C) ends the process with a segmentation fault (OpenVINO 2026)."""
    import openvino

    return openvino.Core()


def capabilities() -> list[str]:
    """What OpenVINO computes in on this processor, such as FP32, BF16, INT8."""
    return list(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


class OpenvinoSession:
    """One compiled graph, for one thread at a time. Q/DQ pairs run in integer kernels, everything else in `arithmetic`:
    by itself, OpenVINO would take bfloat16 where the processor has that.

    Args:
        model: the file's path.
        threads: threads within one frame; None lets OpenVINO decide.
        arithmetic: "f32" or "bf16"; the caller has seen that the processor has it (`capabilities`).
    """

    reuses_output = False

    def __init__(self, model: Path, *, threads: int | None = None, arithmetic: str = "f32") -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingLibrary("openvino", "running .onnx files with OpenVINO", "openvino") from error
        settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": arithmetic}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self._compiled: Any = _core().compile_model(os.fspath(model), "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise UserError(f"OpenVINO {openvino.__version__} cannot load {model} ({reason})",
                            try_="--engine onnx, ONNX Runtime") from error

    def ports(self) -> tuple[list[Port], list[Port]]:
        """The graph's inputs and outputs, as OpenVINO compiled them."""
        return list(map(_port, self._compiled.inputs)), list(map(_port, self._compiled.outputs))

    def run(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """uint8 [1, H, W, 3] BGR → the graph's first output."""
        return np.asarray(self._compiled(x)[0])

    def close(self) -> None:
        """Release the graph."""
        self._compiled = None


def open(artifact: Artifact, path: Path, *, threads: int | None = None) -> OpenvinoSession:
    """Open an artifact's `.onnx` file; see `runtime.sessions.open_session`."""
    session = OpenvinoSession(path, threads=threads)
    hold_against_engine(artifact, *session.ports())
    return session


def kernels(path: Path, x: npt.NDArray[np.uint8], runs: int) -> list[tuple[list[str], float]]:
    """Names and median milliseconds of each kernel and what is fused into it; see `calibration.judge.costs`."""
    compiled = _core().compile_model(os.fspath(path), "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True})
    fused = {node.get_friendly_name(): str(property_of(node, "originalLayersNames")).split(",")
             for node in compiled.get_runtime_model().get_ops()}
    request, found = compiled.create_infer_request(), defaultdict[str, list[float]](list)
    for number in range(runs):
        request.infer({0: x})
        for kernel in request.profiling_info if number >= runs // 4 else ():
            found[kernel.node_name].append(1e3 * kernel.real_time.total_seconds())
    return [([name, *fused.get(name, [])], statistics.median(ms)) for name, ms in found.items()]


def property_of(node: Any, key: str) -> Any:
    """What a compiled graph says of one of its nodes, such as its "primitiveType"."""
    entry = node.get_rt_info()[key]
    return getattr(entry, "value", entry)


def _port(node: Any) -> Port:
    return Port(node.get_any_name(), tuple(size.get_length() if size.is_static else 0 for size in node.partial_shape),
                node.element_type.to_dtype().name)
