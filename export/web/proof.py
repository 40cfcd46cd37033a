"""A frame and the mask that the runtime makes of it: by these the page proves itself on the device that opens it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.artifact import OutputKind
from runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from runtime.artifact import Artifact
    from runtime.preprocess import Frame
    from runtime.segmenter import Segmenter

GATES = {"fp32": 0.999, "fp16": 0.998, "int8": 0.98}
"""Share of pixels that must keep their class. INT8 is held against its simulation in float: WASM's kernels agree with
that on 98.7 % of the drawn street and on 99.4 to 99.8 % of photographs, kernels that saturate on 92 to 98.9 %."""

FRAME, EXPECTED = "proof.png", "expected.png"


@dataclass(frozen=True)
class Proof:
    """What the page is given.

    Attributes:
        frame: PNG, half as large again as the network's input, so that resizing and the exact mask take part.
        expected: grey PNG of that size: class indices.
        gate: share of pixels that must agree, 0..1.
        alone: share that a mask of the commonest class alone would reach, so that the figure can be judged.
    """

    frame: str
    expected: str
    gate: float
    alone: float


def write(path: Path, artifact: Artifact, picture: Path | None, folder: Path) -> Mapping[str, Any]:
    """Write both pictures.

    Args:
        path: the artifact's engine file.
        artifact: its JSON.
        picture: the frame; None for one that we draw.
        folder: where the two go.

    Returns:
        `Proof` as plain values.

    Raises:
        UserError: the picture cannot be read.
    """
    import numpy as np

    frame = _frame(artifact, picture)
    with reference(path, artifact) as segmenter:
        mask = segmenter(frame).mask
    _write_png(folder / FRAME, frame)
    _write_png(folder / EXPECTED, mask)
    alone = float(np.bincount(mask.reshape(-1)).max() / mask.size)
    return asdict(Proof(FRAME, EXPECTED, gate(artifact), round(alone, 4)))


def gate(artifact: Artifact) -> float:
    """Share of pixels that must agree for an artifact of this precision."""
    return GATES[artifact.precision]


def reference(path: Path, artifact: Artifact) -> Segmenter:
    """The runtime; for INT8 the Q/DQ graph in float, as the kernels of this processor prove nothing about another's."""
    from runtime.segmenter import Segmenter
    from runtime.sessions.onnx import OnnxSession

    return Segmenter(artifact, OnnxSession(path, optimise=artifact.precision != "int8"))


def check(artifact: Artifact) -> None:
    """Refuse what the page does not do as the runtime does it.

    Raises:
        UserError: not an .onnx file, a class map, or frames that are not resized linearly.
    """
    if artifact.target != "onnx":
        raise UserError(f"{artifact.file} is for {artifact.target}; a browser runs .onnx files",
                        try_=f"python -m export.web {artifact.name}")
    if artifact.output_kind is OutputKind.CLASSES:
        raise UserError(f"{artifact.file} returns a class map; the page makes the exact mask itself, from logits",
                        try_=f"python -m export.onnx {artifact.name} --output low")
    if artifact.preprocess.interpolation.value != "linear":
        raise UserError(f"{artifact.file} expects frames resized by {artifact.preprocess.interpolation.value!r}; the "
                        "page resizes linearly and would give other masks than the runtime",
                        try_="a network with interpolation = \"linear\"")
    if artifact.precision not in GATES:
        raise UserError(f"{artifact.file} is {artifact.precision}; the page has gates for {', '.join(GATES)}",
                        try_=f"python -m export.web {artifact.name} --precision fp32")


def _frame(artifact: Artifact, picture: Path | None) -> Frame:
    import cv2
    import numpy as np

    from calibration.data.frames import drawn_frame
    from runtime.video import read_image

    height, width = (side * 3 // 2 for side in artifact.preprocess.size)
    if picture is None:
        return drawn_frame((height, width), 5)
    return np.asarray(cv2.resize(read_image(picture), (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _write_png(path: Path, picture: Frame) -> None:
    import cv2

    done, encoded = cv2.imencode(".png", picture)
    assert done
    path.write_bytes(encoded.tobytes())
