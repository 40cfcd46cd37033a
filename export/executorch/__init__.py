"""ExecuTorch: .pte files for apps on phones, computed by XNNPACK, executed here by the same runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from export.target import Job, Target
from runtime.errors import UserError

if TYPE_CHECKING:
    from runtime.artifact import Artifact
    from runtime.sessions import Session

TARGET = Target(
    "ExecuTorch", ending=".pte", source="torch", precisions=("fp32", "int8"), outputs=("low", "logits"),
    packages=("executorch", "torchao", "flatbuffers", "ruamel.yaml", "tabulate"), extra="executorch",
    never_executed="any phone, and every backend but XNNPACK")


def build(job: Job) -> Path:
    """Export; see `export.build.build`."""
    from export.executorch.exporter import exported

    if hindrance := TARGET.hindrance():
        raise UserError(f"exporting to ExecuTorch needs what this machine does not have ({hindrance})")
    return exported(job)


def reopen(artifact: Artifact, path: Path) -> Session | None:
    """The runtime that phones have too, here on the CPU."""
    from runtime.sessions import open_session

    return open_session(artifact, path)
