"""Which TensorRT builds: one of two libraries, chosen where the user can see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import UserError
from runtime.sessions._cuda import Gpu
from runtime.sessions._plan import import_library


@dataclass(frozen=True)
class Library:
    """The installed library that is going to build.

    Attributes:
        module: `tensorrt` or `tensorrt_rtx`.
        why: the reason for this one, for the user.
    """

    module: Any
    why: str

    @property
    def name(self) -> str:
        """The module's name, by which the session finds it again."""
        return str(self.module.__name__)

    @property
    def version(self) -> str:
        """E.g. "1.7.1.116"."""
        return str(self.module.__version__)

    @property
    def rtx(self) -> bool:
        """Whether it is TensorRT-RTX, which compiles its kernels on the device."""
        return self.name == "tensorrt_rtx"

    @property
    def title(self) -> str:
        """E.g. "TensorRT-RTX 1.7.1.116"."""
        return f"{'TensorRT-RTX' if self.rtx else 'TensorRT'} {self.version}"

    def __str__(self) -> str:
        return f"{self.title}, because {self.why}"


def choose(runtime: str, sm: Sequence[int], gpu: Gpu | str) -> Library:
    """Pick the library to build with, and say why.

    Args:
        runtime: "trt", "rtx" or "auto".
        sm: compute capabilities that were asked for.
        gpu: the GPU of this machine, or the reason why there is none.

    Raises:
        UserError: nothing fits; the message says what to install, and where from.
    """
    if runtime == "trt" or (runtime == "auto" and not sm and isinstance(gpu, Gpu) and _installed("tensorrt")):
        if sm:
            raise UserError("--sm was received together with --runtime trt, which builds for the GPU at hand",
                            try_="--runtime rtx, or leave --sm out")
        asked = "--runtime asks for it"
        return _tensorrt(gpu, asked if runtime == "trt" else f"it is installed and there is a GPU ({gpu})")
    if runtime == "auto" and not _installed("tensorrt_rtx"):
        if not _installed("tensorrt"):
            raise UserError(
                "no TensorRT is installed. For GeForce and RTX GPUs, and to build where there is no GPU, take "
                "TensorRT-RTX from PyPI: pip install 'edgeseg[trt]'. For Jetson and data-centre GPUs take TensorRT: "
                "it comes with JetPack, or pip install tensorrt-cu13 --extra-index-url https://pypi.nvidia.com",
                try_="python -m export doctor, which shows what is here")
        return _tensorrt(gpu, "it alone is installed")
    module = import_library("tensorrt_rtx")
    known = compute_capabilities(module)
    if unknown := [number for number in sm if number not in known]:
        raise UserError(f"--sm {','.join(map(str, unknown))} was received; TensorRT-RTX {module.__version__} builds "
                        f"for {', '.join(map(str, known))}", try_=_other_way(unknown[0]))
    if runtime == "rtx":
        return Library(module, "--runtime asks for it")
    if sm:
        return Library(module, "--sm asks for plans that TensorRT-RTX alone builds")
    if isinstance(gpu, Gpu):
        if gpu.compute_capability[0] * 10 + gpu.compute_capability[1] not in known:
            raise UserError(f"{gpu.name} (compute capability {gpu.sm}) is not served by TensorRT-RTX, and TensorRT is "
                            "not installed", try_="pip install tensorrt-cu13 --extra-index-url https://pypi.nvidia.com")
        return Library(module, "TensorRT is not installed")
    return Library(module, f"it builds without a GPU, and {gpu}")


def _other_way(number: int) -> str:
    return {87: "--runtime trt on the Jetson itself", 90: "--runtime trt on a machine with that GPU"}.get(
        number, "--sm with numbers of that list")


def _installed(name: str) -> bool:
    try:
        import_library(name)
    except UserError:
        return False
    return True


def _tensorrt(gpu: Gpu | str, why: str) -> Library:
    module = import_library("tensorrt")
    if int(module.__version__.split(".")[0]) < 10:
        raise UserError(f"TensorRT {module.__version__} is installed; expected 10 or newer",
                        try_="upgrade JetPack to 6 or newer, or install a newer TensorRT")
    if isinstance(gpu, str):
        raise UserError(f"TensorRT builds only on the GPU that the plan is for, and {gpu}",
                        try_="pip install 'edgeseg[trt]' and --runtime rtx, which builds without a GPU")
    return Library(module, why)


def compute_capabilities(module: Any) -> list[int]:
    """SM numbers that this TensorRT-RTX builds for."""
    return sorted(int(name[2:]) for name in module.ComputeCapability.__members__ if name.startswith("SM"))
