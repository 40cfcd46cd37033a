"""Core ML: .mlpackage folders for Apple's systems, made and evaluated on any machine."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from export.target import Job, Judged, Target

if TYPE_CHECKING:
    from runtime.artifact import Artifact
    from runtime.sessions import Session


def _remark() -> str:
    version = platform.mac_ver()[0]
    return f"macOS {version}" if version else "predicts on Macs only; read back and evaluated here"


TARGET = Target(
    "Core ML", ending=".mlpackage", source="torch", precisions=("fp16", "fp32", "int8", "w8", "palette4", "palette6"),
    outputs=("classes", "low", "logits"), packages=("coremltools",), extra="export", without_engine=Judged.EVALUATED,
    never_executed="Core ML itself, the Neural Engine, `examples/ios/`", remark=_remark)


def build(job: Job) -> Path:
    """Export with the options that the command has by default; see `export.build.build`."""
    from export.coreml.exporter import CoremlOptions, exported

    return exported(job, CoremlOptions())


def reopen(artifact: Artifact, path: Path) -> Session | None:
    """Core ML on a Mac; elsewhere the reference evaluator, which computes what Core ML would."""
    from runtime.sessions import engines, open_session

    if not engines()["coreml"].hindrance():
        return open_session(artifact, path)
    from export.coreml.reference.session import ReferenceSession

    return ReferenceSession(path, artifact.output_kind)
