"""How a TensorRT plan is held against the ONNX file that it was built from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.reference import verification_frames
from export.request import Say
from export.trt.inspect import rows_of_engine, table, unfused
from export.verify import FP16, Gate, Verifier, describe
from runtime.artifact import Artifact, OutputKind
from runtime.mask import class_map, planes
from runtime.sessions.onnx import OnnxSession
from runtime.sessions.trt import TrtSession


def onnx_verifier(given: Artifact, path: Path, frames: Path | None) -> Verifier:
    """Holds the outputs of the ONNX artifact, which was itself verified against torch."""
    # INT8 is compared as Q/DQ in float: integer kernels of this CPU round elsewhere than a GPU's
    session = OnnxSession(path, optimise=given.precision != "int8")
    return Verifier(verification_frames(given.preprocess, frames), session.run, None, to_classes(given))


def to_classes(artifact: Artifact) -> Callable[[Any], Any]:
    """From an artifact's output to a uint8 [H, W] class map at input size."""
    if artifact.output_kind is OutputKind.CLASSES:
        return lambda y: y[0]
    if artifact.output_kind is OutputKind.LOGITS:
        return lambda y: y[0].argmax(0).astype(np.uint8)
    return lambda y: class_map(planes(y[0], artifact.output.layout), artifact.preprocess.size,
                               align_corners=artifact.align_corners)


@dataclass(frozen=True)
class PlanCheck:
    """What is done with a plan where a GPU can open it: called with its artifact and path, it runs every frame, holds
    the masks against the ONNX file's, and returns the artifact with what was found."""

    verifier: Verifier
    inspect: bool
    say: Say

    def __call__(self, artifact: Artifact, path: Path) -> Artifact:
        session = TrtSession(artifact, path)
        try:
            check = self.verifier.check("plan vs onnx", session.run, _gate(artifact.precision))
            rows = rows_of_engine(session.layers())
        finally:
            session.close()
        self.say(describe(check))
        if self.inspect:
            self.say(table(rows))
            self.say(f"Q/DQ that were not fused: {', '.join(unfused(rows)) or 'none'}")
        details = dict(artifact.details) | {"status": "executed", "cuda_graph": session.cuda_graph,
                                            "unfused": unfused(rows)}
        return dataclasses.replace(artifact, verification=(*artifact.verification, check), details=details)


def _gate(precision: str) -> Gate:
    return {"fp32": Gate(agreement=0.9999), "int8": Gate(agreement=0.99)}.get(precision, FP16)
