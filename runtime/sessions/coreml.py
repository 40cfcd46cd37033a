"""Core ML, on macOS: an .mlpackage through coremltools, on the units that the caller chooses.

An iPhone needs none of this; there the package goes into Xcode (examples/ios). This session is for measuring and
checking on a Mac.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.artifact import Artifact, OutputKind
from runtime.contract import Port, hold_against_engine
from runtime.errors import MissingLibrary, UserError
from runtime.sessions import Engine

UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu+gpu": "CPU_AND_GPU", "cpu+ne": "CPU_AND_NE"}
"""Our names of the processors that Core ML may use, and coremltools'."""

UNITS_VARIABLE = "EDGESEG_COREML_UNITS"
"""Environment variable that chooses among them where no code does; "all" when it is not set."""


def on_mac() -> bool:
    """Whether Core ML is there."""
    return platform.system() == "Darwin"


ENGINE = Engine("Core ML", reads=("coreml",), packages=("coremltools", "pillow"), extra="coreml",
                lacks=lambda: "" if on_mac() else "needs macOS")


class CoremlSession:
    """One loaded .mlpackage; Core ML compiles it for this Mac when it is opened.

    Args:
        package: the .mlpackage folder.
        artifact: what the JSON says.
        units: a key of `UNITS`.

    Raises:
        UserError: not a Mac, unknown units, or Core ML refuses the package.
        MissingLibrary: coremltools or Pillow is not installed.
    """

    reuses_output = False

    def __init__(self, package: Path, artifact: Artifact, units: str = "all") -> None:
        if not on_mac():
            raise UserError(f"{package.name} runs through Core ML, which only Apple's systems have; this is "
                            f"{platform.system()}", try_=f"python -m export.onnx {artifact.name}, for this machine")
        if units not in UNITS:
            raise UserError(f"compute units {units!r} were asked for; known: {', '.join(UNITS)}")
        try:
            import coremltools as ct
            from PIL import Image
        except ImportError as error:
            raise MissingLibrary(str(error.name), "running .mlpackage files", "coreml") from error
        self._picture = Image.fromarray
        self._kind = artifact.output_kind
        self._output = artifact.output.name
        self._input = artifact.input.name
        self._tensor = artifact.details.get("input") == "tensor"
        try:
            self._model: Any = ct.models.MLModel(os.fspath(package),
                                                 compute_units=getattr(ct.ComputeUnit, UNITS[units]))
        except Exception as error:  # Core ML's errors arrive as bare RuntimeError or Exception
            raise UserError(f"Core ML cannot load {package} ({str(error).splitlines()[0][:200]})",
                            try_=f"export {artifact.name} again, for this system's --target") from error
        hold_against_engine(artifact, *ports(self._model.get_spec().description, self._tensor))

    def run(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """uint8 [1, H, W, 3] BGR → uint8 class map [1, H, W], or float32 logits [1, C, h, w]."""
        given = planar_from_frame(x) if self._tensor else self._picture(np.ascontiguousarray(x[0, ..., ::-1]))
        return settled(self._model.predict({self._input: given})[self._output], self._kind)

    def close(self) -> None:
        """Release the model."""
        self._model = None


def ports(description: Any, tensor: bool) -> tuple[list[Port], list[Port]]:
    """A package's inputs and outputs as `run` takes and returns them.

    Args:
        description: coremltools' ModelDescription protobuf.
        tensor: whether frames go in as an array; a picture is then no input of ours, and the other way round.
    """
    return [_taken(feature, tensor) for feature in description.input], list(map(_made, description.output))


def _taken(feature: Any, tensor: bool) -> Port:
    if feature.type.WhichOneof("Type") == "imageType":
        picture = feature.type.imageType
        return Port(feature.name, (1, picture.height, picture.width, 3), "image" if tensor else "uint8")
    batch, *channels, height, width = feature.type.multiArrayType.shape
    return Port(feature.name, (batch, height, width, *channels), "uint8" if tensor else "array")


def _made(feature: Any) -> Port:
    array = feature.type.multiArrayType
    dtype = array.ArrayDataType.Name(array.dataType).lower()
    return Port(feature.name, tuple(array.shape) or None, {"int32": "uint8"}.get(dtype, dtype))


def planar_from_frame(x: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """uint8 [1, H, W, 3] → float32 [1, 3, H, W], 0..255, in the same channel order."""
    return np.ascontiguousarray(np.moveaxis(x, 3, 1), dtype=np.float32)


def settled(y: npt.NDArray[Any], kind: OutputKind) -> npt.NDArray[Any]:
    """What Core ML returns → the artifact's output: class maps uint8 (they are int32 there), logits float32."""
    return y.astype(np.uint8 if kind is OutputKind.CLASSES else np.float32)


def open(artifact: Artifact, path: Path, *, threads: int | None = None) -> CoremlSession:
    """Open an artifact's `.mlpackage`; see `runtime.sessions.open_session`. Core ML chooses its threads itself."""
    return CoremlSession(path, artifact, os.environ.get(UNITS_VARIABLE, "all"))
