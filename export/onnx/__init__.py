"""ONNX, for ONNX Runtime, OpenVINO and everything that reads it: the file that other targets start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from export.target import Job, Target

if TYPE_CHECKING:
    from runtime.artifact import Artifact
    from runtime.sessions import Session

TARGET = Target(
    "ONNX", ending=".onnx", source="torch", precisions=("fp32", "fp16", "int8"), outputs=("low", "logits", "classes"),
    packages=(), extra="export")


def build(job: Job) -> Path:
    """Export; see `export.build.build`."""
    from export.onnx.exporter import exported, quantised

    return quantised(job) if job.request.precision == "int8" else exported(job)


def reopen(artifact: Artifact, path: Path) -> Session | None:
    """ONNX Runtime, which every installation has."""
    from runtime.sessions import open_session

    return open_session(artifact, path)
