"""A network in, a verified .pte file out: torch → ExecuTorch with XNNPACK → (INT8), run and held against torch."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.calibrated import LOSSY, calibration_frames, record, verdict
from export.executorch.convert import Program, int8_program_from_torch, program_from_torch
from export.planes import OUTSIDE, classes_last
from export.request import tools
from export.target import HOST, Job
from export.verify import FP32, Gate, describe
from runtime.sessions.executorch import ExecutorchSession

if TYPE_CHECKING:
    from export.verify import Verifier
    from runtime.artifact import Check


def exported(job: Job) -> Path:
    """Export, running the program in ExecuTorch's runtime.

    Returns:
        The .pte file's path.

    Raises:
        GateFailed: a step's output does not agree with the network's, or too much mIoU is lost; nothing is written.
        UserError: an operator cannot be converted, or there is nothing to calibrate on.
    """
    from export.reference import torch_verifier

    wanted = job.request
    chosen = calibration_frames(job) if wanted.precision == "int8" else None
    verifier = torch_verifier(wanted, job.frames)
    program = program_from_torch(wanted)
    checks = [_verified(job, verifier, "executorch vs torch", program, FP32)]
    if chosen is None:
        return _published(job, program, checks, {})
    quantised = int8_program_from_torch(wanted, map(chosen.read, range(len(chosen.paths))))
    checks.append(_verified(job, verifier, "int8 vs torch", quantised, LOSSY))
    with closing(ExecutorchSession(program.contents)) as before, \
            closing(ExecutorchSession(quantised.contents)) as after:
        job.say(verdict("ExecuTorch", before.run, after.run, chosen.read(0)))
    return _published(job, quantised, checks, record(chosen, "the float32 network's own tensors in torch"))


def _verified(job: Job, verifier: Verifier, step: str, program: Program, gate: Gate) -> Check:
    """Hold a program's output against torch's."""
    with closing(ExecutorchSession(program.contents)) as session:
        check = verifier.check(step, classes_last(session.run, job.request.output), gate)
    job.say(describe(check))
    rest = ", ".join(f"{count} {name}" for name, count in program.portable.items())
    job.say(f"XNNPACK computes {program.delegates} piece{'s' * (program.delegates != 1)} of the graph; "
            f"portable kernels: {rest or 'none'}")
    return check


def _published(job: Job, program: Program, checks: list[Check], calibration: dict[str, Any]) -> Path:
    """Describe the file, and put it in its place."""
    from export.accuracy import reopened_within_budget
    from export.describe import described
    from runtime.artifact import publish

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

    held = partial(reopened_within_budget, job, "ExecuTorch")
    publish(dataclasses.replace(artifact, calibration=calibration), path, write, held)
    return path
