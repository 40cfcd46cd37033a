"""ONNX Runtime on the CPU: the engine that every device has."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact
from runtime.contract import Port, hold_against_engine
from runtime.errors import MissingLibrary, StageFailed, UserError
from runtime.forms import INTEGER_OPS, Form
from runtime.sessions import Engine
from runtime.tune import cores

ENGINE = Engine("ONNX Runtime", reads=("onnx",), packages=("onnxruntime",), integers=("", "signed", "unsigned"),
                form=Form("unsigned", INTEGER_OPS - {"Resize", "MaxPool", "AveragePool"}, outputs=True, first=False,
                          tables=True, vector=16))


def library() -> Any:
    """ONNX Runtime, imported here and nowhere else.

    From 1.31 on, importing it gives the device an id and starts a database of events for Microsoft, unless told not to.

    Raises:
        MissingLibrary: onnxruntime is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingLibrary("onnxruntime", "running .onnx files", "") from error
    return onnxruntime


class OnnxSession:
    """One loaded ONNX graph. Thread-safe; every `run` returns fresh memory.

    Args:
        model: the file's path, or the serialised model.
        threads: threads within one frame; None for one per physical core, or per core that this process is kept to.
        optimise: False leaves the graph as it is, which keeps Q/DQ pairs in float (simulated INT8).
    """

    reuses_output = False

    def __init__(self, model: Path | bytes, *, threads: int | None = None, optimise: bool = True) -> None:
        ort = library()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or _own_threads()
        options.log_severity_level = 3
        options.graph_optimization_level = (ort.GraphOptimizationLevel.ORT_ENABLE_ALL if optimise
                                            else ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        try:
            self._session: Any = ort.InferenceSession(model if isinstance(model, bytes) else os.fspath(model), options,
                                                      providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            name = "the model" if isinstance(model, bytes) else str(model)
            raise UserError(f"ONNX Runtime {ort.__version__} cannot load {name} ({_first_line(error)})",
                            try_="export it again; the file may be cut short") from error
        self._input = self._session.get_inputs()[0].name

    def ports(self) -> tuple[list[Port], list[Port]]:
        """The graph's inputs and outputs, as ONNX Runtime reads them."""
        return list(map(_port, self._session.get_inputs())), list(map(_port, self._session.get_outputs()))

    def run(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """uint8 [1, H, W, 3] BGR → the graph's first output.

        Raises:
            StageFailed: a kernel broke off, as for lack of memory.
        """
        try:
            y: npt.NDArray[Any] = self._session.run(None, {self._input: x})[0]
        except Exception as error:
            raise StageFailed(f"ONNX Runtime {library().__version__} broke off ({_first_line(error)})") from error
        return y

    def close(self) -> None:
        """Release the graph."""
        self._session = None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


def _own_threads() -> int:
    """0, ONNX Runtime's own choice: a thread per physical core, each bound to its core. It binds them to cores that
    this process is kept off, too (taskset, a container's share of a machine); there, as many as it may use."""
    return 0 if cores() == os.cpu_count() else cores()


def open(artifact: Artifact, path: Path, *, threads: int | None = None) -> OnnxSession:
    """Open an artifact's `.onnx` file; see `runtime.sessions.open_session`."""
    session = OnnxSession(path, threads=threads)
    hold_against_engine(artifact, *session.ports())
    return session


def _port(node: Any) -> Port:
    """Dimensions that have names or nothing at all are the frame's; "tensor(float)" is float32."""
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    return Port(node.name, tuple(size if isinstance(size, int) else 0 for size in node.shape),
                {"float": "float32"}.get(dtype, dtype))


def profile(path: Path, x: npt.NDArray[np.uint8], threads: int, runs: int) -> list[dict[str, Any]]:
    """Run a file under ONNX Runtime's profiler.

    Args:
        path: the `.onnx` file.
        x: uint8 [1, H, W, 3] BGR.
        threads: within one frame; 0 as None in `OnnxSession`.
        runs: of the frame.

    Returns:
        The events of all kernels of all runs but the first quarter, which warms up.
    """
    ort = library()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or _own_threads()
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        for _ in range(runs):
            session.run(None, {name: x})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    return kernels[len(kernels) // runs * (runs // 4):]


def kernels(path: Path, x: npt.NDArray[np.uint8], runs: int) -> list[tuple[list[str], float]]:
    """Names and median milliseconds of each kernel; see `calibration.judge.costs`."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for event in profile(path, x, 0, runs):
        found[event["name"].removesuffix("_kernel_time")].append(event["dur"] / 1e3)
    return [([name], statistics.median(ms)) for name, ms in found.items()]
