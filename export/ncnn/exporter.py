"""A network in, a verified ncnn folder out: torch → pnnx → ncnn, run by the library and held against torch."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.ncnn.convert import layers, ncnn_from_torch
from export.request import tools
from export.target import HOST, Job
from export.verify import FP16, FP32, Run, describe
from runtime.artifact import OutputKind

if TYPE_CHECKING:
    from runtime.artifact import Artifact, Check
    from runtime.sessions.ncnn import NcnnSession

OUTSIDE = "bytes, channels last → float32 planes"
"""What the session does with a frame, because ncnn's graphs hold neither."""


def exported(job: Job) -> Path:
    """Export, running the folder in ncnn.

    Returns:
        The folder's path.

    Raises:
        GateFailed: its output does not agree with the network's, or too much mIoU is lost; nothing is written.
        UserError: an operator cannot be converted.
    """
    from export.reference import torch_verifier
    from runtime.sessions.ncnn import NcnnSession

    half = job.request.precision == "fp16"
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as temporary:
        folder = Path(temporary, "ncnn")
        ncnn_from_torch(job.request, folder)
        verifier = torch_verifier(job.request, job.frames)
        with closing(NcnnSession(folder, half=half)) as session:
            check = verifier.check("ncnn vs torch", _classes_last(job, session), FP16 if half else FP32)
        job.say(describe(check))
        return _published(job, folder, [check])


def _classes_last(job: Job, session: NcnnSession) -> Run:
    """What the verifier compares with: low-resolution logits have their classes last in torch's reference."""
    low = job.request.output is OutputKind.LOW
    return lambda frame: np.moveaxis(session.run(frame), 1, 3) if low else session.run(frame)


def _published(job: Job, folder: Path, checks: list[Check]) -> Path:
    """Describe the folder, and put it in its place."""
    from calibration.data.frames import drawn_frame
    from export.describe import described
    from runtime.artifact import publish
    from runtime.sessions.ncnn import NcnnSession

    with closing(NcnnSession(folder)) as session:
        (source,), (result,) = session.ports()
        shape = session.run(drawn_frame(job.request.spec.preprocess.size, 0)[None]).shape
    artifact = described(
        job.request, "ncnn", tools=tools(*HOST, "ncnn", "pnnx"), shape=shape, names=(source.name, result.name),
        layout="NCHW", verification=checks, details={"layers": layers(folder), "in_the_session": OUTSIDE})
    path = job.out / f"{job.request.stem}.ncnn"

    def write(temporary: Path) -> None:
        shutil.copytree(folder, temporary)

    publish(artifact, path, write, partial(_held, job))
    return path


def _held(job: Job, artifact: Artifact, path: Path) -> Artifact:
    """Open what was written once more, and measure it on the job's labelled frames where there are any."""
    from export.accuracy import within_budget
    from runtime.sessions.ncnn import open as opened

    with closing(opened(artifact, path)) as session:
        return within_budget(job, artifact, session, "ncnn")
