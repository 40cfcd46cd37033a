# ruff: noqa: N802, N815  (the names are NVIDIA's)
"""Stand-ins for cuda-python and TensorRT that write down what they are told, for machines without a GPU."""

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace
from typing import Any

import numpy as np


class Code(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureUnsupported = 900


class FakeCuda:
    """cuda.bindings.runtime over ordinary memory. `calls` lists every call's name; `failures` maps a name to a Code."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, driver: int = 13000, sm: tuple[int, int] = (8, 9), **failures: Code) -> None:
        self.driver, self.sm, self.failures = driver, sm, failures
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self.recording: list[Any] | None = None

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not callable(found):
            return found

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            if name in self.failures:
                return self.failures[name], None
            value = found(*arguments)
            return (Code.cudaSuccess,) if value is None else (Code.cudaSuccess, value)

        call.__name__ = name
        return call

    def cudaDriverGetVersion(self): return self.driver
    def cudaRuntimeGetVersion(self): return 13050
    def cudaGetDeviceCount(self): return 1
    def cudaSetDevice(self, index): return None

    def cudaGetDeviceProperties(self, index):
        return SimpleNamespace(name=b"Fake RTX", major=self.sm[0], minor=self.sm[1])

    def cudaMalloc(self, size):
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    cudaMallocHost = cudaMalloc

    def cudaFree(self, pointer): del self.memory[pointer]
    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, to, source, size, kind, stream):
        self.do(lambda: ctypes.memmove(to, source, size) and None)

    def do(self, action: Any) -> None:
        """What a stream does: act, or record while a capture is on."""
        if self.recording is None:
            action()
        else:
            self.recording.append(action)

    def cudaStreamCreate(self): return 7
    def cudaStreamDestroy(self, stream): return None
    def cudaStreamSynchronize(self, stream): return None
    def cudaStreamBeginCapture(self, stream, mode): self.recording = []

    def cudaStreamEndCapture(self, stream):
        recorded, self.recording = self.recording, None
        return recorded

    def cudaGraphInstantiate(self, graph, flags): return list(graph)
    def cudaGraphDestroy(self, graph): return None
    def cudaGraphExecDestroy(self, graph): return None

    def cudaGraphLaunch(self, graph, stream):
        for action in graph:
            action()


class Severity(enum.IntEnum):
    ERROR = 1
    WARNING = 2
    VERBOSE = 4


class FakeTensorrt:
    """The part of `tensorrt` or `tensorrt_rtx` that a session uses. The engine answers 255 - the frame's first channel.

    Args:
        cuda: where its memory is.
        engine_name: what the plan says of itself.
        header: a name of EngineInvalidityDiagnostics, or "".
        shape: of its input; -1 where the frame decides.
        outputs: names of what it returns.
    """

    class ILogger:
        VERBOSE = Severity.VERBOSE

    TensorIOMode = enum.Enum("TensorIOMode", "INPUT OUTPUT")
    EngineValidity = SimpleNamespace(INVALID=2)
    EngineInvalidityDiagnostics = enum.IntFlag("Bits", "VERSION_MISMATCH UNSUPPORTED_CC OLD_CUDA_DRIVER")

    def __init__(self, cuda: FakeCuda, engine_name: str, *, name: str = "tensorrt_rtx", version: str = "1.7.1.116",
                 header: str = "", opens: bool = True, capturable: bool = True, cache: bytes = b"kernels",
                 shape: tuple[int, ...] = (1, -1, -1, 3), outputs: tuple[str, ...] = ("classes",)) -> None:
        self.shape, self.outputs = shape, outputs
        self.__name__, self.__version__ = name, version
        self.cuda, self.engine_name, self.header, self.opens = cuda, engine_name, header, opens
        self.capturable, self.cache = capturable, cache
        self.loaded: list[bytes] = []
        if name == "tensorrt":
            self.EngineInvalidityDiagnostics = None
            del self.__dict__["EngineInvalidityDiagnostics"]

    def nptype(self, dtype): return dtype

    def Runtime(self, log):
        bits = self.EngineInvalidityDiagnostics[self.header] if self.header else 0
        engine = FakeEngine(self) if self.opens else None
        if engine is None:
            log.log(Severity.ERROR, "Serialization assertion\nfailed")
        return SimpleNamespace(get_engine_validity=lambda plan: (2 if bits else 0, int(bits)),
                               deserialize_cuda_engine=lambda plan: engine)


class FakeEngine:
    def __init__(self, trt: FakeTensorrt) -> None:
        self.trt, self.name, self.cuda = trt, trt.engine_name, trt.cuda
        self.shape = trt.shape
        self.num_io_tensors = 1 + len(trt.outputs)
        self.addresses: dict[str, int] = {}

    def get_tensor_name(self, index): return ("frame", *self.trt.outputs)[index]
    def get_tensor_dtype(self, name): return np.uint8

    def get_tensor_mode(self, name):
        modes = self.trt.TensorIOMode
        return modes.INPUT if name == "frame" else modes.OUTPUT

    def create_runtime_config(self):
        return SimpleNamespace(create_runtime_cache=lambda: self, set_runtime_cache=lambda cache: True)

    def deserialize(self, data):
        self.trt.loaded.append(data)
        return data == self.trt.cache

    def serialize(self): return self.trt.cache
    def create_execution_context(self, config=None): return self
    def get_tensor_profile_shape(self, name, profile): return [(1, 2, 2, 3), (1, 4, 4, 3), (1, 8, 8, 3)]
    def get_tensor_shape(self, name): return self.shape if name == "frame" else self.shape[:3]
    def set_tensor_address(self, name, address): self.addresses[name] = address

    def set_input_shape(self, name, shape):
        self.shape = shape
        return max(shape[1:3]) <= 8

    def is_stream_capturable(self, stream): return self.trt.capturable

    def execute_async_v3(self, stream):
        self.cuda.calls.append("execute_async_v3")
        size = int(np.prod(self.shape[:3]))

        def infer() -> None:
            frame = np.ctypeslib.as_array((ctypes.c_uint8 * (3 * size)).from_address(self.addresses["frame"]))
            classes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.addresses["classes"]))
            classes[:] = 255 - frame[::3]

        self.cuda.do(infer)
        return True
