"""Whether an exported file is still what an export would write now, so that it need not be written again."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.artifact import open_artifact
from runtime.errors import UserError

if TYPE_CHECKING:
    from export.request import Request

SOURCES = Path(__file__).parent
"""Our own code takes part in every export: a changed line makes a changed fingerprint."""


def fingerprint(wanted: Request, frames: Path | None) -> str:
    """SHA-256 of everything that decides what `export.onnx.build` writes and verifies.

    The network's spec, parameters and buffers; output, precision and the other options; the versions of the tools; the
    text of our exporters; and the names, sizes and times of the verification frames.
    """
    from export.request import tools
    from runtime.video import image_paths

    digest = hashlib.sha256()

    def add(*values: object) -> None:
        digest.update(json.dumps(values, default=str).encode())

    add(repr(wanted.spec), wanted.weights, wanted.output.value, wanted.precision, wanted.dynamic, wanted.simplify)
    add(tools("torch", "onnx", "onnxscript", "onnxsim", "onnxruntime"))
    for name, tensor in wanted.network.state_dict().items():
        add(name, tuple(tensor.shape), str(tensor.dtype))
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    add(repr(wanted.network))  # a builder's choices: strides, activations
    theirs = {inspect.getsourcefile(type(module)) for module in wanted.network.modules()}  # a user's own, a library's
    for path in [*sorted(SOURCES.rglob("*.py")), *sorted(Path(file) for file in theirs if file)]:
        add(path.name)
        digest.update(path.read_bytes())
    for path in image_paths(frames) if frames else ():
        add(path.name, path.stat().st_size, path.stat().st_mtime_ns)
    return digest.hexdigest()


def unchanged(path: Path, wanted: Request, frames: Path | None) -> bool:
    """Whether `path` and its JSON are whole and were written from the same fingerprint."""
    if not path.exists():
        return False
    try:
        artifact, _ = open_artifact(path)
    except UserError:  # damaged or of another format: export again, which overwrites it
        return False
    return artifact.details.get("fingerprint") == fingerprint(wanted, frames)
