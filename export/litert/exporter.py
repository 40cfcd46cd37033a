"""A network in, a verified .tflite file out: torch → LiteRT → (float16 weights, or equalised → INT8), each step run."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.calibrated import LOSSY, METHOD, calibration_frames, record, verdict
from export.litert.convert import CONVERTER, tflite_from_torch
from export.request import tools
from export.target import HOST, Job
from export.verify import FP16, FP32, Gate, describe

if TYPE_CHECKING:
    from runtime.artifact import Check


def exported(job: Job) -> Path:
    """Export, running every step's file in LiteRT's interpreter.

    Returns:
        The .tflite file's path.

    Raises:
        GateFailed: a step's output does not agree with the network's, or too much mIoU is lost; nothing is written.
        UserError: an operator cannot be converted, or there is nothing to calibrate on.
    """
    from calibration.quantise.equalise import FRAMES
    from calibration.quantise.thresholds import choose
    from export.difference import Trace
    from export.litert.equalise import equalised
    from export.litert.integers import within_xnnpack
    from export.litert.quantise import float16_from_float, int8_from_float, largest_by_channel, observed
    from export.litert.tensors import of_tflite
    from export.reference import torch_verifier
    from runtime.sessions.litert import LitertSession

    wanted, say = job.request, job.say
    chosen = calibration_frames(job) if wanted.precision == "int8" else None
    verifier = torch_verifier(wanted, job.frames)
    checks: list[Check] = []
    before = list(verifier.traces)

    def verified(step: str, model: bytes, gate: Gate, *, scaled: bool = False) -> bytes:
        after = Trace(step.partition(" vs ")[0], of_tflite(model))
        if scaled:  # its tensors are not those of the step before
            before.clear()
        with closing(LitertSession(model)) as session:
            checks.append(verifier.check(step, session.run, gate, [*before, after]))
        before[:] = [after]
        say(describe(checks[-1]))
        return model

    model = verified("litert vs torch", tflite_from_torch(wanted), FP32)
    if wanted.precision == "fp16":
        model = verified("fp16 vs torch", float16_from_float(model), FP16)
    if chosen is None:
        return _published(job, model, checks, {})
    every = range(len(chosen.paths))
    even = equalised(model, largest_by_channel(model, map(chosen.read, every[:FRAMES])))
    ready = verified("equalised vs torch", within_xnnpack(even), FP32, scaled=True)
    seen = observed(ready, map(chosen.read, every))
    quantised = verified("int8 vs torch", int8_from_float(ready, choose(METHOD, seen, zero_points=True)), LOSSY)
    with closing(LitertSession(model)) as one, closing(LitertSession(quantised)) as other:
        say(verdict("LiteRT", one.run, other.run, chosen.read(0)))
    return _published(job, quantised, checks, record(chosen, "the float32 file's own tensors in LiteRT's interpreter"))


def _published(job: Job, model: bytes, checks: list[Check], calibration: dict[str, Any]) -> Path:
    """Describe the file, say what delegates will not take, and put it in its place."""
    from export.accuracy import reopened_within_budget
    from export.describe import described
    from export.litert import delegates
    from runtime.artifact import publish
    from runtime.sessions.litert import LitertSession

    with closing(LitertSession(model)) as session:
        (source,), (result,) = session.ports()
    present = delegates.operators(model)
    for line in delegates.report(present):
        job.say(line)
    artifact = described(
        job.request, "litert", tools=tools(*HOST, "ai-edge-litert", *CONVERTER),
        shape=result.shape or (), names=(source.name, result.name), verification=checks,
        details={"operators": present, "left_to_the_cpu": delegates.refused(present)})
    path = job.out / f"{job.request.stem}.tflite"

    def write(temporary: Path) -> None:
        temporary.write_bytes(model)

    held = partial(reopened_within_budget, job, "LiteRT")
    publish(dataclasses.replace(artifact, calibration=calibration), path, write, held)
    return path
