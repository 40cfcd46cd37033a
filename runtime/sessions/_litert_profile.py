"""What each operator of a .tflite file takes, by LiteRT's own profiler.

The interpreter for Python has no way to it. The C library in the same wheel has (litert_profiler.h and
litert_compiled_model.h of google-ai-edge/LiteRT), and runs the same kernels of XNNPACK.
"""

from __future__ import annotations

import ctypes
import os
import statistics
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import UserError

Handle = ctypes.c_void_p
FIRST, ONE = ctypes.c_size_t(0), ctypes.c_size_t(1)
CPU = 1
"""kLiteRtHwAcceleratorCpu."""
WRITE = 1
"""kLiteRtTensorBufferLockModeWrite."""
OPERATOR, WITHIN_DELEGATE, OPERATOR_OF_DELEGATE = 2, 4, 8
"""Kinds of events: an operator of the file, or a delegate as a whole; operators inside of a delegate."""
KINDS = {1 << bit for bit in range(9)}
TYPE_BYTES = 256
"""More than a LiteRtRankedTensorType takes, into which nobody here looks."""


class _Event(ctypes.Structure):
    """ProfiledEventData."""

    _fields_ = (("tag", ctypes.c_char_p), ("kind", ctypes.c_int32), ("start_us", ctypes.c_uint64),
                ("elapsed_us", ctypes.c_uint64), ("memory", ctypes.c_uint64 * 6), ("metadata", ctypes.c_uint64 * 2),
                ("source", ctypes.c_int32))


def operators(library: Path, path: Path, x: npt.NDArray[np.uint8], threads: int, runs: int) -> list[tuple[str, float]]:
    """Kind and median milliseconds of each operator, in the order in which they ran.

    Args:
        library: libLiteRt.so.
        path: the `.tflite` file.
        x: uint8 [1, H, W, 3] BGR.
        threads: within one frame.
        runs: of the frame; the first quarter warms up.

    Raises:
        UserError: this LiteRT has another interface than the one known here.
    """
    with ExitStack() as stack:
        lite = _Library(library, stack)
        model, source, result = lite.compiled(path, threads)
        lite.fill(source, x)
        profiler = lite.made("LiteRtCompiledModelGetProfiler", model)
        frames = []
        for number in range(runs):
            lite.call("LiteRtResetProfiler", profiler)
            lite.call("LiteRtStartProfiler", profiler)
            lite.call("LiteRtRunCompiledModel", model, FIRST, ONE, ctypes.byref(source), ONE, ctypes.byref(result))
            lite.call("LiteRtStopProfiler", profiler)
            if number >= runs // 4:
                frames.append(lite.events(profiler))
    return [(calls[0][0], statistics.median(ms for _, ms in calls)) for calls in zip(*frames, strict=True)]


class _Library:
    """The functions of the C library; what they make is released with `stack`."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._functions = ctypes.CDLL(os.fspath(path))
        self._stack = stack
        self._kept: list[Any] = [ctypes.CFUNCTYPE(None, Handle)(lambda address: None)]  # Python frees what it owns

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function that returns a status."""
        status = getattr(self._functions, name)(*arguments)
        if status:
            raise _unknown(f"{name} returned {status}")

    def made(self, name: str, *arguments: Any) -> Handle:
        """What a function returns through its last argument."""
        handle = Handle()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle

    def owned(self, kind: str, name: str, *arguments: Any) -> Handle:
        """The same, of what is to be released."""
        handle = self.made(name, *arguments)
        self._stack.callback(getattr(self._functions, f"LiteRtDestroy{kind}"), handle)
        return handle

    def compiled(self, path: Path, threads: int) -> tuple[Handle, Handle, Handle]:
        """A model that can be profiled, with buffers for its input and its output."""
        environment = self.owned("Environment", "LiteRtCreateEnvironment", 0, None)
        file = self.owned("Model", "LiteRtCreateModelFromFile", environment, os.fsencode(path))
        options = self.owned("Options", "LiteRtCreateOptions")
        self.call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
        self._set(options, "runtime_options_string", "enable_profiling = true\n")
        self._set(options, "xnnpack", f"num_threads = {threads}\n")
        model = self.owned("CompiledModel", "LiteRtCreateCompiledModel", environment, file, options)
        signature = self.made("LiteRtGetModelSignature", file, FIRST)
        source, result = (self._buffer(environment, model, signature, end) for end in ("Input", "Output"))
        return model, source, result

    def _set(self, options: Handle, what: str, toml: str) -> None:
        self._kept.append(ctypes.create_string_buffer(toml.encode()))
        text = ctypes.cast(self._kept[-1], Handle)
        self.call("LiteRtAddOpaqueOptions", options,
                  self.made("LiteRtCreateOpaqueOptions", what.encode(), text, self._kept[0]))

    def _buffer(self, environment: Handle, model: Handle, signature: Handle, end: str) -> Handle:
        tensor = self.made(f"LiteRtGetSignature{end}TensorByIndex", signature, FIRST)
        kind = ctypes.create_string_buffer(TYPE_BYTES)
        self.call("LiteRtGetRankedTensorType", tensor, kind)
        needs = self.made(f"LiteRtGetCompiledModel{end}BufferRequirements", model, FIRST, FIRST)
        return self.owned("TensorBuffer", "LiteRtCreateManagedTensorBufferFromRequirements", environment, kind, needs)

    def fill(self, buffer: Handle, x: npt.NDArray[np.uint8]) -> None:
        """Copy a frame into a buffer of its size."""
        size = ctypes.c_size_t()
        self.call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
        assert size.value == x.nbytes
        address = Handle()
        self.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(address), WRITE)
        ctypes.memmove(address, np.ascontiguousarray(x).ctypes.data, x.nbytes)
        self.call("LiteRtUnlockTensorBuffer", buffer)

    def events(self, profiler: Handle) -> list[tuple[str, float]]:
        """Kind and milliseconds of each operator of the last run; a delegate is named by what it has inside."""
        count = ctypes.c_int()
        self.call("LiteRtGetNumProfilerEvents", profiler, ctypes.byref(count))
        found = (_Event * count.value)()
        self.call("LiteRtGetProfilerEvents", profiler, count, found)
        if unknown := {event.kind for event in found} - KINDS:
            raise _unknown(f"an event is of the kind {min(unknown)}")
        return [(event.tag.decode(), event.elapsed_us / 1e3) for event in found
                if event.kind in (WITHIN_DELEGATE, OPERATOR_OF_DELEGATE)
                or (event.kind == OPERATOR and b"Delegate" not in event.tag)]


def _unknown(reason: str) -> UserError:
    return UserError(f"ai-edge-litert {version('ai-edge-litert')} does not profile as 2.3 does ({reason}); expected a "
                     "version that does", try_="pip install ai-edge-litert==2.3.0")
