"""LiteRT (once TensorFlow Lite): .tflite files for Android and small boards, executed here by the same interpreter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from export.target import Job, Target
from runtime.errors import UserError

if TYPE_CHECKING:
    from runtime.artifact import Artifact
    from runtime.sessions import Session

def _lacks() -> str:
    from export.litert.convert import CONVERTER
    from runtime.sessions import missing

    if sys.version_info < (3, 11):
        return "LiteRT's converter needs Python 3.11 or later"
    if what := missing(CONVERTER, ""):
        return f"{what.split(':')[0]}: pip install --no-deps -r {Path(__file__).with_name('requirements.txt')}"
    return ""


TARGET = Target(
    "LiteRT", ending=".tflite", source="torch", precisions=("fp32", "fp16", "int8"),
    outputs=("low", "logits", "classes"),
    packages=("ai-edge-litert", "jax", "torchao", "absl-py", "immutabledict", "rich"), extra="litert-export",
    never_executed="any phone, and every delegate but XNNPACK", lacks=_lacks)


def build(job: Job) -> Path:
    """Export; see `export.build.build`."""
    from export.litert.exporter import exported

    if hindrance := TARGET.hindrance():
        raise UserError(f"exporting to LiteRT needs what this machine does not have ({hindrance})")
    return exported(job)


def reopen(artifact: Artifact, path: Path) -> Session | None:
    """The interpreter that Android has too, here on the CPU."""
    from runtime.sessions import open_session

    return open_session(artifact, path)
