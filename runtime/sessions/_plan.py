"""What a TensorRT plan states, and whether this machine can run it: shared by the builder and the session."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runtime.artifact import FORMAT, Artifact, to_json
from runtime.decode import decoded
from runtime.errors import MissingLibrary, UserError
from runtime.sessions._cuda import Gpu

HEADER_PROBLEMS = {
    "VERSION_MISMATCH": ("another version of TensorRT-RTX",
                         "pip install 'tensorrt-rtx-cu13=={version}', or export again"),
    "UNSUPPORTED_CC": ("other GPUs than this one", "export again with --sm {sm}"),
    "OLD_CUDA_DRIVER": ("a newer NVIDIA driver", "update the driver"),
    "OLD_CUDA_RUNTIME": ("a newer CUDA runtime", "pip install --upgrade cuda-bindings"),
    "INSUFFICIENT_GPU_MEMORY": ("a GPU with more memory", "export with a smaller --size"),
    "MALFORMED_ENGINE": ("nothing: the file is damaged", "export again"),
    "CUDA_ERROR": ("a working driver", "python -m export doctor"),
}
"""What TensorRT-RTX reads in a plan's header → what the plan was built for, and what to do."""


def plan_name(artifact: Artifact) -> str:
    """What is written into a plan as its network's name, so that it can be checked that plan and JSON belong together.

    TensorRT allows 128 characters. They hold the network's name, the precision, and a digest of the whole JSON except
    what is only known once the plan exists: its file name and hash, the verification, and the builder's details.
    """
    record = dataclasses.replace(artifact, file="", sha256="", verification=(), details={})
    digest = hashlib.sha256(to_json(record).encode()).hexdigest()[:32]
    return json.dumps({"edgeseg": FORMAT, "name": artifact.name[:32], "precision": artifact.precision,
                       "record": digest}, separators=(",", ":"))


@dataclass(frozen=True)
class Details:
    """What is used here of an artifact's JSON: how its plan was built.

    Attributes:
        library: the module that built it, and opens it.
        version: of that library.
        compute_capabilities: that it was built for, "8.7"; TensorRT-RTX asks the plan itself.
    """

    library: Literal["tensorrt", "tensorrt_rtx"] = "tensorrt"
    version: str = ""
    compute_capabilities: tuple[str, ...] = ()


def details(artifact: Artifact) -> Details:
    """Of an artifact with a plan.

    Raises:
        UserError: its JSON says something that no exporter writes.
    """
    try:
        return decoded(Details, dict(artifact.details), whole=False, part=True)
    except ValueError as error:
        raise UserError(f"the JSON beside {artifact.file} does not describe its plan: {error}",
                        try_=f"python -m export.trt {artifact.name}") from error


def import_library(name: str) -> Any:
    """The module `name`, "tensorrt" or "tensorrt_rtx".

    Raises:
        UserError: not installed; the message says where it comes from.
    """
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        if name == "tensorrt_rtx":
            raise MissingLibrary("tensorrt-rtx-cu13", "TensorRT-RTX", "trt") from error
        raise UserError("TensorRT is not installed; on a Jetson it comes with JetPack (make the environment with "
                        "`python3 -m venv --system-site-packages`)",
                        try_="pip install tensorrt-cu13 --extra-index-url https://pypi.nvidia.com") from error
    if not hasattr(module, "Runtime"):  # PyPI's tensorrt may be an empty shell that fetches nothing
        raise UserError(f"the package {name!r} that is installed holds no library",
                        try_=f"pip uninstall {name}, then pip install tensorrt-cu13 --extra-index-url "
                             "https://pypi.nvidia.com")
    return module


def check_machine(artifact: Artifact, plan: Path, trt: Any, gpu: Gpu) -> None:
    """Plans of TensorRT fit one version and one compute capability; those of TensorRT-RTX know themselves."""
    if trt.__name__ == "tensorrt_rtx":
        return
    stated = details(artifact)
    if stated.version.split(".")[:3] != trt.__version__.split(".")[:3]:
        raise UserError(f"{plan.name} was built with TensorRT {stated.version}, this machine has {trt.__version__}",
                        try_=f"python -m export.trt {artifact.name}, on this machine")
    if gpu.sm not in stated.compute_capabilities:
        raise UserError(f"{plan.name} was built for compute capability {', '.join(stated.compute_capabilities)}, "
                        f"{gpu.name} has {gpu.sm}", try_=f"python -m export.trt {artifact.name}, on this machine")


def log_of(trt: Any) -> Any:
    """A logger for TensorRT that keeps what it is given, as (severity, text) in `lines`, and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: Any, text: str) -> None:
            if severity != trt.ILogger.VERBOSE:
                self.lines.append((severity.name, text))

        def last(self) -> str:
            """The last error in one line, for our own message."""
            errors = [text for severity, text in self.lines if "ERROR" in severity]
            return " ".join(errors[-1].split())[:300] if errors else "it gave no reason"

    return Log()


def header_problem(trt: Any, runtime: Any, plan: bytes) -> str:
    """Why TensorRT-RTX refuses a plan, from its header alone; "" where it does not, or where it cannot be asked.

    Without a driver only damage and another version are recognised: the rest of the header's check needs the GPU.
    """
    if not hasattr(trt, "EngineInvalidityDiagnostics"):
        return ""
    validity, bits = runtime.get_engine_validity(plan)
    if validity != trt.EngineValidity.INVALID:
        return ""
    flags = trt.EngineInvalidityDiagnostics.__members__
    return next((name for name, flag in flags.items() if bits & int(flag.value)), "")
