"""ncnn: a folder with `.param` and `.bin`, for small Arm boards and phones, executed here by the same library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from export.target import Job, Target
from runtime.errors import UserError

if TYPE_CHECKING:
    from runtime.artifact import Artifact
    from runtime.sessions import Session

TARGET = Target(
    "ncnn", ending=".ncnn", source="torch", precisions=("fp32", "fp16", "int8"), outputs=("low", "logits"),
    packages=("ncnn", "pnnx"), extra="ncnn-export", never_executed="any board or phone, float16 arithmetic, Vulkan")


def build(job: Job) -> Path:
    """Export; see `export.build.build`."""
    from export.ncnn.exporter import exported

    if hindrance := TARGET.hindrance():
        raise UserError(f"exporting to ncnn needs what this machine does not have ({hindrance})")
    return exported(job)


def reopen(artifact: Artifact, path: Path) -> Session | None:
    """The library that boards have too, here on the CPU."""
    from runtime.sessions import open_session

    return open_session(artifact, path)
