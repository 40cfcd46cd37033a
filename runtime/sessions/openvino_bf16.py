"""OpenVINO in bfloat16, on processors that have it (AVX-512 BF16, AMX): no calibration, and nearly INT8's speed.

The same `.onnx` file; weights and activations are rounded to 8 bits of mantissa and sums kept in float32. What an INT8
file leaves in float runs in bfloat16 likewise. It is an engine of its own, asked for by name, because its masks
differ a little from float32's.
"""

from __future__ import annotations

from pathlib import Path

from runtime.artifact import Artifact
from runtime.contract import hold_against_engine
from runtime.errors import UserError
from runtime.sessions import Engine, installed
from runtime.sessions.openvino import OpenvinoSession, capabilities


def _lacks() -> str:
    if not installed(("openvino",)) or "BF16" in (found := capabilities()):
        return ""
    return f"this processor has no bfloat16 (OpenVINO computes here in {', '.join(found)})"


ENGINE = Engine("OpenVINO BF16", reads=("onnx",), packages=("openvino",), extra="openvino", lacks=_lacks,
                integers=("", "signed", "unsigned"))


def open(artifact: Artifact, path: Path, *, threads: int | None = None) -> OpenvinoSession:
    """Open an artifact's `.onnx` file; see `runtime.sessions.open_session`.

    Raises:
        UserError: the processor has no bfloat16; nothing else is taken in its place.
    """
    if lacking := _lacks():
        raise UserError(f"--engine openvino-bf16 was asked for, and {lacking}", try_="--engine openvino, in float32")
    session = OpenvinoSession(path, threads=threads, arithmetic="bf16")
    hold_against_engine(artifact, *session.ports())
    return session
