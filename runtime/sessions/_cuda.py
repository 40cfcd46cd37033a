"""The little of CUDA that a session needs, through cuda-python: what GPU there is, memory, and errors of one line."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.errors import MissingLibrary, UserError


class CudaError(UserError):
    """A CUDA call failed."""


@dataclass(frozen=True)
class Gpu:
    """The first GPU of this machine.

    Attributes:
        name: as its driver calls it.
        compute_capability: (major, minor), e.g. (8, 7) for Orin.
        driver: the newest CUDA that the driver serves, e.g. "13.0".
    """

    name: str
    compute_capability: tuple[int, int]
    driver: str

    @property
    def sm(self) -> str:
        """E.g. "8.7"."""
        return ".".join(map(str, self.compute_capability))

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.sm}, driver for CUDA {self.driver}"


def library() -> Any:
    """cuda-python's module of the CUDA runtime.

    Raises:
        MissingLibrary: cuda-bindings is not installed.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise MissingLibrary("cuda-bindings", "using a GPU", "trt") from error
    return runtime


def call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call a CUDA function and return its value, or None when it has none.

    Raises:
        CudaError: it failed; out of memory names the next thing to do.
    """
    code, *values = function(*arguments)
    if int(code) == 0:
        return values[0] if values else None
    name = getattr(code, "name", str(code))
    if name == "cudaErrorMemoryAllocation":
        raise CudaError(f"the GPU has no memory left ({function.__name__} {' '.join(map(str, arguments[:1]))} bytes)",
                        try_="close what else runs on the GPU (nvidia-smi lists it), or export with a smaller --size")
    raise CudaError(f"{function.__name__} failed with {name}", try_="python -m export doctor")


def gpu() -> Gpu:
    """Find the GPU.

    Raises:
        CudaError: no driver, a driver older than cuda-bindings, or no GPU; the message says which.
        MissingLibrary: cuda-bindings is not installed.
    """
    cuda = library()
    driver = int(call(cuda.cudaDriverGetVersion))
    if driver == 0:
        raise CudaError("this machine has no NVIDIA driver", try_="nvidia-smi, which comes with a driver")
    code, count = cuda.cudaGetDeviceCount()
    if getattr(code, "name", "") == "cudaErrorInsufficientDriver":
        needs = int(call(cuda.cudaRuntimeGetVersion))
        raise CudaError(f"the NVIDIA driver serves CUDA up to {_dotted(driver)}, cuda-bindings needs {_dotted(needs)}",
                        try_=f"pip install 'cuda-bindings=={driver // 1000}.*', or update the driver")
    if int(code) or not count:
        raise CudaError(f"the NVIDIA driver finds no GPU ({getattr(code, 'name', code)})", try_="nvidia-smi")
    found = call(cuda.cudaGetDeviceProperties, 0)
    return Gpu(found.name.decode().rstrip("\0"), (found.major, found.minor), _dotted(driver))


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


class Buffer:
    """One tensor, twice: `host` in pinned memory, which the GPU reads and writes directly, and `device` on the GPU.

    Args:
        shape: of the tensor.
        dtype: of its elements.
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._cuda = library()
        self.nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.device: int = call(self._cuda.cudaMalloc, self.nbytes)
        try:
            self._pinned: int = call(self._cuda.cudaMallocHost, self.nbytes)
        except CudaError:
            call(self._cuda.cudaFree, self.device)
            raise
        memory = (ctypes.c_uint8 * self.nbytes).from_address(self._pinned)
        self.host: npt.NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def to_device(self, stream: Any) -> None:
        """Copy `host` to `device`, in the stream's order."""
        call(self._cuda.cudaMemcpyAsync, self.device, self._pinned, self.nbytes,
             self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def to_host(self, stream: Any) -> None:
        """Copy `device` to `host`, in the stream's order."""
        call(self._cuda.cudaMemcpyAsync, self._pinned, self.device, self.nbytes,
             self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def free(self) -> None:
        """Give both back. Nothing may use `host` afterwards."""
        call(self._cuda.cudaFree, self.device)
        call(self._cuda.cudaFreeHost, self._pinned)
