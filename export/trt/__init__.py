"""TensorRT and TensorRT-RTX: plans for NVIDIA GPUs, built where there is none, too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from export.target import Job, Target
from export.trt.machine import gpu_here, problems, this_machine
from runtime.sessions import installed, missing
from runtime.sessions._cuda import Gpu

if TYPE_CHECKING:
    from runtime.artifact import Artifact
    from runtime.sessions import Session

EITHER = ("tensorrt-rtx-cu13", "tensorrt")
"""Distributions of which either builds."""


def _lacks() -> str:
    found = installed(EITHER)
    if "tensorrt-rtx-cu13" in found or (found and isinstance(gpu_here(), Gpu)):
        return ""
    return "TensorRT builds for the GPU at hand; there is none" if found else missing((), "trt", EITHER)


def _remark() -> str:
    found = installed(EITHER)
    if isinstance(gpu_here(), Gpu):
        return " and ".join(sorted(found))
    return "TensorRT-RTX, for GPUs elsewhere: built, not executed"


TARGET = Target(
    "TensorRT", ending=".plan", source="onnx", precisions=("fp32", "fp16", "int8"),
    outputs=("classes", "low", "logits"), packages=(), extra="trt",
    never_executed="any plan on any GPU", lacks=_lacks, remark=_remark, problems=lambda: problems(this_machine()))


def build(job: Job) -> Path:
    """Export the ONNX file, then build; see `export.build.build`. The library is chosen by what is here."""
    from export.trt.exporter import PlanOptions, onnx_artifact, plan_from_onnx
    from export.trt.library import choose

    here = gpu_here()
    library = choose("auto", (), here)
    job.say(f"builder: {library}")
    return plan_from_onnx(onnx_artifact(job), job.out, library, here, PlanOptions(frames=job.frames), job.say)


def reopen(artifact: Artifact, path: Path) -> Session | None:
    """The plan on the GPU of this machine; None where there is none."""
    from runtime.sessions import engines, open_session

    return None if engines()["trt"].hindrance() else open_session(artifact, path)
