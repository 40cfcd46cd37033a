"""The evaluator as a session: what `runtime.sessions.coreml` gives on a Mac, on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from export.coreml.reference.evaluate import Evaluator
from export.coreml.reference.read import read_package
from export.difference import Named, TensorSample
from runtime.artifact import OutputKind
from runtime.sessions.coreml import planar_from_frame, settled


class ReferenceSession:
    """A saved .mlpackage of ours, opened in the reference evaluator.

    Args:
        package: the folder.
        kind: what it returns.
    """

    reuses_output = False

    def __init__(self, package: Path, kind: OutputKind) -> None:
        self.evaluator = Evaluator(read_package(package))
        self._kind = kind
        (self._input,), (self._output,) = self.evaluator.program.inputs, self.evaluator.program.outputs

    def run(self, x: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """uint8 [1, H, W, 3] BGR → uint8 class map [1, H, W], or float32 logits [1, C, h, w]."""
        return settled(self.evaluator(self.inputs(x))[self._output], self._kind)

    def inputs(self, x: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """What Core ML hands the program for a frame: planar channels in the order that the package declares."""
        return {self._input: planar_from_frame(x if self._bgr() else x[..., ::-1])}

    def _bgr(self) -> bool:
        from coremltools.proto import FeatureTypes_pb2

        (declared,) = self.evaluator.program.description.description.input
        space = declared.type.imageType.colorSpace
        return bool(declared.type.WhichOneof("Type") != "imageType" or space == FeatureTypes_pb2.ImageFeatureType.BGR)

    def first_overflow(self, x: npt.NDArray[np.uint8]) -> str:
        """The first result that is not finite for a frame: its name; empty when all are."""
        found: list[str] = []

        def look(name: str, value: torch.Tensor) -> None:
            if not found and value.is_floating_point() and not bool(value.isfinite().all()):
                found.append(name)

        self.evaluator(self.inputs(x), observe=look)
        return found[0] if found else ""

    def tensors(self, x: npt.NDArray[np.uint8]) -> Named:
        """Every float result for a frame by name, in order; float16's names end in "_cast_fp16", which is left out."""
        found: list[tuple[str, TensorSample]] = []

        def look(name: str, value: torch.Tensor) -> None:
            if value.is_floating_point():
                found.append((name.removesuffix("_cast_fp16"), TensorSample.of(value.float().numpy())))

        self.evaluator(self.inputs(x), observe=look)
        yield from found

    def close(self) -> None:
        """Nothing to release."""
