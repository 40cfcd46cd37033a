"""TensorRT and TensorRT-RTX plans on an NVIDIA GPU, through cuda-python; no torch.

Buffers are made once, copies go through pinned memory, everything runs in one stream, and where the engine allows it
copy, inference and copy back are captured as one CUDA graph that a frame launches with a single call.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact
from runtime.contract import Port, hold_against_engine
from runtime.errors import UserError
from runtime.files import cache_folder, in_one_piece
from runtime.sessions import Engine
from runtime.sessions import _cuda as cuda
from runtime.sessions._plan import (
    HEADER_PROBLEMS,
    check_machine,
    details,
    header_problem,
    import_library,
    log_of,
    plan_name,
)


def _lacks() -> str:
    try:
        cuda.gpu()
    except UserError as error:
        return error.what
    return ""


ENGINE = Engine("TensorRT", reads=("trt",), packages=("cuda-bindings",), extra="trt",
                one_of=("tensorrt-rtx-cu13", "tensorrt"), lacks=_lacks)

logger = logging.getLogger(__name__)


class TrtSession:
    """One plan on the GPU. Every `run` overwrites the array that the last one returned; not thread-safe.

    Attributes:
        cuda_graph: whether frames are launched as one CUDA graph. Where they are not, a warning has said why.
    """

    reuses_output = True

    def __init__(self, artifact: Artifact, plan: Path) -> None:
        self._details = details(artifact)
        self._trt = import_library(self._details.library)
        gpu = cuda.gpu()
        check_machine(artifact, plan, self._trt, gpu)
        self._cuda = cuda.library()
        cuda.call(self._cuda.cudaSetDevice, 0)
        self._log = log_of(self._trt)
        self._engine = self._opened(artifact, plan, gpu)
        self._cache = _RuntimeCache(artifact, gpu) if self._details.library == "tensorrt_rtx" else None
        self._context = self._cache.context(self._engine) if self._cache else self._engine.create_execution_context()
        if self._context is None:
            raise UserError(f"{plan.name} needs more memory than {gpu.name} has free ({self._log.last()})",
                            try_="close what else runs on the GPU, or export with a smaller --size")
        self._stream = cuda.call(self._cuda.cudaStreamCreate)
        self._buffers: tuple[cuda.Buffer, ...] = ()
        self._graph: Any = None
        self._names = (artifact.input.name, artifact.output.name)
        self._dtype = artifact.output.dtype
        self.cuda_graph = False
        if 0 not in artifact.input.shape:
            try:
                self._prepare(artifact.input.shape)
            except UserError:
                self.close()
                raise

    def _opened(self, artifact: Artifact, plan: Path, gpu: cuda.Gpu) -> Any:
        """Deserialise, and compare the name in the plan with the JSON."""
        data = plan.read_bytes()
        self._runtime = self._trt.Runtime(self._log)
        if problem := header_problem(self._trt, self._runtime, data):
            meant, fix = HEADER_PROBLEMS[problem]
            raise UserError(f"{plan.name} was built for {meant} ({problem}; here: {gpu}, "
                            f"{self._trt.__name__} {self._trt.__version__})",
                            try_=fix.format(version=self._details.version, sm=gpu.sm.replace(".", "")))
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise UserError(f"{self._trt.__name__} {self._trt.__version__} cannot open {plan.name} "
                            f"({self._log.last()})", try_=f"python -m export.trt {artifact.name}, on this machine")
        if engine.name != plan_name(artifact):
            raise UserError(f"{plan.name} holds the name {engine.name!r}, its JSON expects {plan_name(artifact)!r}: "
                            "they do not belong together", try_=f"python -m export.trt {artifact.name}")
        hold_against_engine(artifact, *_ports(self._trt, engine))
        return engine

    def _prepare(self, shape: tuple[int, ...]) -> None:
        """Make the buffers for an input shape, run once, and capture the CUDA graph."""
        self._release_buffers()
        given, made = self._names
        if tuple(self._engine.get_tensor_shape(given)) != shape and not self._context.set_input_shape(given, shape):
            low, _, high = (tuple(s) for s in self._engine.get_tensor_profile_shape(given, 0))
            raise UserError(f"a frame of shape {shape} was received; the plan takes {low} to {high}",
                            try_="export with other --min and --max")
        x = cuda.Buffer(shape, np.uint8)
        self._buffers = (x,)
        y = cuda.Buffer(tuple(self._context.get_tensor_shape(made)), self._dtype)
        self._buffers = (x, y)
        self._context.set_tensor_address(given, x.device)
        self._context.set_tensor_address(made, y.device)
        self._enqueue()  # the first run compiles and allocates, which no capture may contain
        cuda.call(self._cuda.cudaStreamSynchronize, self._stream)
        if self._cache:
            self._cache.save()
        reason = self._capture()
        self.cuda_graph = not reason
        if reason:
            logger.warning("no CUDA graph (%s); every frame is enqueued call by call instead", reason)

    def _enqueue(self) -> None:
        x, y = self._buffers
        x.to_device(self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise cuda.CudaError(f"inference failed ({self._log.last()})", try_="python -m export doctor")
        y.to_host(self._stream)

    def _capture(self) -> str:
        """Record a frame's calls as a graph. Returns why not; empty when it worked."""
        capturable = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX 1.2 and later
        if capturable is not None and not capturable(int(self._stream)):
            return "the engine says that it cannot be captured"
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        cuda.call(self._cuda.cudaStreamBeginCapture, self._stream, mode)
        reason = ""
        try:
            self._enqueue()
        except cuda.CudaError as error:
            reason = str(error)
        code, graph = self._cuda.cudaStreamEndCapture(self._stream)
        if reason or int(code):
            return reason or f"capture ended with {getattr(code, 'name', code)}"
        try:
            self._graph = cuda.call(self._cuda.cudaGraphInstantiate, graph, 0)
        except cuda.CudaError as error:
            reason = str(error)
        cuda.call(self._cuda.cudaGraphDestroy, graph)
        return reason

    def run(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """uint8 [1, H, W, 3] BGR → the plan's output, in memory that the next `run` overwrites."""
        if not self._buffers or x.shape != self._buffers[0].host.shape:
            self._prepare(x.shape)
        np.copyto(self._buffers[0].host, x)
        if self._graph is not None:
            cuda.call(self._cuda.cudaGraphLaunch, self._graph, self._stream)
        else:
            self._enqueue()
        cuda.call(self._cuda.cudaStreamSynchronize, self._stream)
        return self._buffers[1].host

    def layers(self) -> str:
        """Every layer with its precision and kernel, as JSON; see `export.trt.inspect`."""
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def _release_buffers(self) -> None:
        if self._graph is not None:
            cuda.call(self._cuda.cudaGraphExecDestroy, self._graph)
        buffers, self._buffers, self._graph = self._buffers, (), None
        for buffer in buffers:
            buffer.free()

    def close(self) -> None:
        """Release the engine, its buffers and the stream. Arrays that `run` returned are gone with them."""
        if self._engine is None:
            return
        self._release_buffers()
        cuda.call(self._cuda.cudaStreamDestroy, self._stream)
        self._context = self._engine = self._runtime = None


def open(artifact: Artifact, path: Path, *, threads: int | None = None) -> TrtSession:
    """Open an artifact's plan; see `runtime.sessions.open_session`."""
    return TrtSession(artifact, path)


def _ports(trt: Any, engine: Any) -> tuple[list[Port], list[Port]]:
    """A plan's inputs and outputs; -1 stands for a dimension that the frame decides."""
    found: dict[Any, list[Port]] = {trt.TensorIOMode.INPUT: [], trt.TensorIOMode.OUTPUT: []}
    for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
        shape = tuple(max(size, 0) for size in engine.get_tensor_shape(name))
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        found[engine.get_tensor_mode(name)].append(Port(name, shape, dtype.name))
    return found[trt.TensorIOMode.INPUT], found[trt.TensorIOMode.OUTPUT]


class _RuntimeCache:
    """The kernels that TensorRT-RTX compiled for this GPU, kept between starts in the user's cache folder."""

    def __init__(self, artifact: Artifact, gpu: cuda.Gpu) -> None:
        self.path = cache_folder() / f"{artifact.sha256[:16]}-sm{gpu.sm}.rtxcache"
        self._kept = self.path.read_bytes() if self.path.is_file() else b""
        self._cache: Any = None

    def context(self, engine: Any) -> Any:
        """An execution context that starts from the kernels kept."""
        config = engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        if self._kept and not self._cache.deserialize(self._kept):
            logger.warning("%s does not fit this driver or TensorRT-RTX; kernels are compiled anew", self.path)
        config.set_runtime_cache(self._cache)
        return engine.create_execution_context(config)

    def save(self) -> None:
        """Keep the kernels for the next start, where there are new ones."""
        data = bytes(self._cache.serialize())
        if data == self._kept:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with in_one_piece(self.path) as temporary:
            temporary.write_bytes(data)
        self._kept = data
