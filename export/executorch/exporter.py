"""A network in, a verified .pte file out: torch → ExecuTorch with XNNPACK, run there and held against torch."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.executorch.convert import Program, program_from_torch
from export.request import tools
from export.target import HOST, Job
from export.verify import FP32, Run, describe
from runtime.artifact import OutputKind

if TYPE_CHECKING:
    from runtime.artifact import Artifact, Check
    from runtime.sessions.executorch import ExecutorchSession

OUTSIDE = "bytes, channels last → float32 planes"
"""What the session does with a frame, because kernels that do it inside a program are slow."""


def exported(job: Job) -> Path:
    """Export, running the program in ExecuTorch's runtime.

    Returns:
        The .pte file's path.

    Raises:
        GateFailed: its output does not agree with the network's, or too much mIoU is lost; nothing is written.
        UserError: an operator cannot be converted.
    """
    from export.reference import torch_verifier
    from runtime.sessions.executorch import ExecutorchSession

    program = program_from_torch(job.request)
    verifier = torch_verifier(job.request, job.frames)
    with closing(ExecutorchSession(program.contents)) as session:
        check = verifier.check("executorch vs torch", _classes_last(job, session), FP32)
    job.say(describe(check))
    rest = ", ".join(f"{count} {name}" for name, count in program.portable.items())
    job.say(f"XNNPACK computes {program.delegates} piece{'s' * (program.delegates != 1)} of the graph; "
            f"portable kernels: {rest or 'none'}")
    return _published(job, program, [check])


def _classes_last(job: Job, session: ExecutorchSession) -> Run:
    """What the verifier compares with: low-resolution logits have their classes last in torch's reference."""
    low = job.request.output is OutputKind.LOW
    return lambda frame: np.moveaxis(session.run(frame), 1, 3) if low else session.run(frame)


def _published(job: Job, program: Program, checks: list[Check]) -> Path:
    """Describe the file, and put it in its place."""
    from export.describe import described
    from runtime.artifact import publish
    from runtime.sessions.executorch import ExecutorchSession

    with closing(ExecutorchSession(program.contents)) as session:
        (source,), (result,) = session.ports()
    artifact = described(
        job.request, "executorch", tools=tools(*HOST, "executorch", "torchao"), shape=result.shape or (),
        names=(source.name, result.name), layout="NCHW", verification=checks,
        details={"delegates": {"XNNPACK": program.delegates}, "portable_kernels": program.portable,
                 "in_the_session": OUTSIDE})
    path = job.out / f"{job.request.stem}.pte"

    def write(temporary: Path) -> None:
        temporary.write_bytes(program.contents)

    publish(artifact, path, write, partial(_held, job))
    return path


def _held(job: Job, artifact: Artifact, path: Path) -> Artifact:
    """Open what was written once more, and measure it on the job's labelled frames where there are any."""
    from export.accuracy import within_budget
    from runtime.sessions.executorch import open as opened

    with closing(opened(artifact, path)) as session:
        return within_budget(job, artifact, session, "ExecuTorch")
