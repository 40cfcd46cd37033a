"""A network in, a verified ncnn folder out: torch → pnnx → ncnn → (equalised → INT8), each step run."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.calibrated import LOSSY, calibration_frames, record, verdict
from export.ncnn.convert import layers, ncnn_from_torch
from export.planes import OUTSIDE, classes_last
from export.request import tools
from export.target import HOST, Job
from export.verify import FP16, FP32, Gate, describe
from runtime.sessions.ncnn import NcnnSession

if TYPE_CHECKING:
    from export.verify import Verifier
    from runtime.artifact import Check


def exported(job: Job) -> Path:
    """Export, running the folder in ncnn.

    Returns:
        The folder's path.

    Raises:
        GateFailed: a step's output does not agree with the network's, or too much mIoU is lost; nothing is written.
        UserError: an operator cannot be converted, or there is nothing to calibrate on.
    """
    from calibration.quantise.equalise import FRAMES
    from export.ncnn.equalise import equalised
    from export.ncnn.quantise import int8_from_float, observed
    from export.reference import torch_verifier

    wanted = job.request
    chosen = calibration_frames(job) if wanted.precision == "int8" else None
    verifier = torch_verifier(wanted, job.frames)
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as temporary:
        folder, even, quantised = (Path(temporary, name) for name in ("float", "even", "int8"))
        ncnn_from_torch(wanted, folder)
        checks = [_verified(job, verifier, "ncnn vs torch", folder, FP16 if wanted.precision == "fp16" else FP32)]
        if chosen is None:
            return _published(job, folder, checks, {})
        every = range(len(chosen.paths))
        equalised(folder, map(chosen.read, every[:FRAMES]), even)
        checks.append(_verified(job, verifier, "equalised vs torch", even, FP32))
        int8_from_float(even, observed(even, map(chosen.read, every)), quantised)
        checks.append(_verified(job, verifier, "int8 vs torch", quantised, LOSSY))
        with closing(NcnnSession(folder)) as before, closing(NcnnSession(quantised)) as after:
            job.say(verdict("ncnn", before.run, after.run, chosen.read(0)))
        return _published(job, quantised, checks, record(chosen, "the float32 network's own blobs in ncnn"))


def _verified(job: Job, verifier: Verifier, step: str, folder: Path, gate: Gate) -> Check:
    """Hold a folder's output against torch's."""
    with closing(NcnnSession(folder, half=job.request.precision == "fp16")) as session:
        check = verifier.check(step, classes_last(session.run, job.request.output), gate)
    job.say(describe(check))
    return check


def _published(job: Job, folder: Path, checks: list[Check], calibration: dict[str, Any]) -> Path:
    """Describe the folder, and put it in its place."""
    from calibration.data.frames import drawn_frame
    from export.accuracy import reopened_within_budget
    from export.describe import described
    from runtime.artifact import publish

    with closing(NcnnSession(folder)) as session:
        (source,), (result,) = session.ports()
        shape = session.run(drawn_frame(job.request.spec.preprocess.size, 0)[None]).shape
    artifact = described(
        job.request, "ncnn", tools=tools(*HOST, "ncnn", "pnnx"), shape=shape, names=(source.name, result.name),
        layout="NCHW", verification=checks, details={"layers": layers(folder), "in_the_session": OUTSIDE})
    path = job.out / f"{job.request.stem}.ncnn"

    def write(temporary: Path) -> None:
        shutil.copytree(folder, temporary)

    held = partial(reopened_within_budget, job, "ncnn")
    publish(dataclasses.replace(artifact, calibration=calibration), path, write, held)
    return path
