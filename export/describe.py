"""The artifact of a request: what every target states of a network, in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runtime.artifact import Artifact, Layout, OutputKind, TensorInfo

if TYPE_CHECKING:
    from export.request import Request
    from runtime.artifact import Check

LAYOUTS: dict[OutputKind, Layout] = {OutputKind.LOW: "NHWC", OutputKind.LOGITS: "NCHW", OutputKind.CLASSES: "NHW"}
"""Of an output, where a target has no other: low-resolution logits have their classes last, as the mask reads them."""


def described(wanted: Request, target: str, *, tools: Mapping[str, str], shape: Sequence[int],
              names: tuple[str, str], layout: Layout | None = None, verification: Sequence[Check] = (),
              details: Mapping[str, Any] | None = None) -> Artifact:
    """Everything but the file name and the hash, which `runtime.artifact.publish` adds.

    Args:
        wanted: what was exported.
        target: the target's name.
        tools: versions of everything that took part.
        shape: of the output, batch dimension included.
        names: of the input and of the output in the file.
        layout: of the output; None for that of `LAYOUTS`.
        verification: the checks that held.
        details: what only this target knows.
    """
    height, width = (0, 0) if wanted.dynamic else wanted.spec.preprocess.size
    return Artifact(
        name=wanted.spec.name, target=target, precision=wanted.precision, file="", sha256="",
        input=TensorInfo(names[0], (1, height, width, 3), "uint8", "NHWC"),
        output=TensorInfo(names[1], tuple(shape), "uint8" if wanted.output is OutputKind.CLASSES else "float32",
                          layout or LAYOUTS[wanted.output]),
        output_kind=wanted.output, stride=wanted.spec.stride, align_corners=wanted.spec.align_corners,
        preprocess=wanted.spec.preprocess, classes=wanted.spec.classes.names, palette=wanted.spec.classes.palette,
        weights=wanted.weights, tools=dict(tools), verification=tuple(verification), details=dict(details or {}))
