"""A network in, a verified .mlpackage out, on any machine: torch → Core ML → (quantised), each step evaluated."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.calibrated import calibration_frames
from export.difference import Trace
from export.quiet import quiet, refusing
from export.reference import torch_verifier
from export.target import Job
from export.verify import FP16, FP32, Gate, describe
from runtime.artifact import OutputKind
from runtime.errors import GateFailed, MissingLibrary, UserError

if TYPE_CHECKING:
    from calibration.data.coverage import Chosen
    from export.coreml.reference.session import ReferenceSession
    from export.request import Request
    from export.verify import Verifier
    from runtime.artifact import Artifact, Check
    from runtime.sessions import Session

SYSTEMS = ("iOS16", "iOS17", "iOS18", "iOS26")
LOSSY_AGREEMENT = 0.9
"""Pixels that a compressed package must keep at the least; what it costs in mIoU is for `--data` to say."""


@dataclass(frozen=True)
class CoremlOptions:
    """What only this target asks.

    Attributes:
        system: the oldest system that the package runs on.
        image: the input is an image (a camera's pixel buffer) rather than a multi-array.
    """

    system: str = "iOS17"
    image: bool = True


def exported(job: Job, options: CoremlOptions) -> Path:
    """Export, evaluating the saved package after every step.

    Args:
        job: what to export.
        options: this target's own.

    Returns:
        The .mlpackage's path.

    Raises:
        GateFailed: the package does not compute what the network does, or loses too much mIoU; `out` is untouched.
        UserError: precision, target and data do not go together.
    """
    from export.accuracy import within_budget
    from export.coreml.package import CPU_ONLY, finished, planned, save
    from export.coreml.quantize import compressed
    from runtime.artifact import publish, size_mb

    wanted, say = job.request, job.say
    chosen = _calibration(job, options) if wanted.precision == "int8" else None
    verifier = torch_verifier(wanted, job.frames)
    artifact = planned(wanted, options.system, options.image)
    base = "fp32" if wanted.precision == "fp32" else "fp16"
    checks: list[Check] = []
    before = list(verifier.traces)
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as folder:
        def verified(step: str, model: Any, gate: Gate) -> tuple[Path, ReferenceSession]:
            package = save(model, artifact, Path(folder) / f"{len(checks)}.mlpackage")
            session = _checked(step, package, verifier, gate, artifact, checks, before)
            say(f"{describe(checks[-1])}, {size_mb(package):.1f} MB")
            return package, session

        model = model_from_torch(wanted, options)
        package, session = verified(f"{base} vs torch", model, FP32 if base == "fp32" else FP16)
        if wanted.precision != base:
            model, record = compressed(model, wanted.precision, session, chosen)
            artifact = dataclasses.replace(artifact, calibration=record)
            package, session = verified(f"{wanted.precision} vs torch", model, Gate(agreement=LOSSY_AGREEMENT))
        artifact = dataclasses.replace(finished(artifact, session.evaluator.program, package),
                                       verification=tuple(checks))
        for kind in artifact.details["cpu_only"]:
            say(f"{kind} runs on CPU only: {CPU_ONLY[kind]}")
        artifact = within_budget(job, artifact, session, "reference evaluator")
        publish(artifact, job.out / artifact.file, partial(shutil.copytree, package))
    return job.out / artifact.file


def _calibration(job: Job, options: CoremlOptions) -> Chosen:
    if options.system == "iOS16":
        raise UserError("--precision int8 quantises activations, which Core ML has from iOS17 on; --target iOS16 was "
                        "asked for", try_="--precision w8, or --target iOS17")
    return calibration_frames(job)


def model_from_torch(wanted: Request, options: CoremlOptions) -> Any:
    """Convert the network in its wrapper: "image" → `wanted.output`, as an MLModel that is not loaded.

    FLOAT16 tensors unless `wanted.precision` is fp32.
    """
    import numpy as np
    import torch

    from export.wrapper import Deployable, PictureInput, traced

    ct = library()
    shape = (1, 3, *wanted.spec.preprocess.size)
    module = PictureInput(Deployable(wanted.network, wanted.spec.preprocess, wanted.output,
                                     wanted.spec.align_corners)).eval()
    source = (ct.ImageType(name="image", shape=shape, color_layout=ct.colorlayout.BGR) if options.image
              else ct.TensorType(name="image", shape=shape, dtype=np.float32))
    result = ct.TensorType(name=wanted.output.value,
                           dtype=np.int32 if wanted.output is OutputKind.CLASSES else np.float32)
    with quiet(), refusing("Core ML's converter", wanted.spec.name):
        program = traced(module, torch.zeros(shape)).run_decompositions({torch.ops.aten.alias.default: lambda x: x})
        return ct.convert(
            program, inputs=[source], outputs=[result], minimum_deployment_target=getattr(ct.target, options.system),
            compute_precision=ct.precision.FLOAT32 if wanted.precision == "fp32" else ct.precision.FLOAT16,
            skip_model_load=True)


def library() -> Any:
    """Import coremltools without what it and its imports say of other packages' versions."""
    try:
        with quiet():
            import coremltools
    except ImportError as error:
        raise MissingLibrary("coremltools", "exporting to Core ML", "export") from error
    return coremltools


def _checked(step: str, package: Path, verifier: Verifier, gate: Gate, artifact: Artifact,
             checks: list[Check], before: list[Trace]) -> ReferenceSession:
    """Reopen a saved package in the evaluator (and in Core ML, on a Mac), compare with torch, append the checks.
    `before` is what the package was made of, and the package when this returns."""
    from export.coreml.reference.session import ReferenceSession
    from runtime.sessions.coreml import CoremlSession, on_mac

    session = ReferenceSession(package, artifact.output_kind)
    after = Trace(step.partition(" vs ")[0], session.tensors)
    try:
        checks.append(verifier.check(step, _as_reference(session, artifact.output_kind), gate, [*before, after]))
    except GateFailed as failure:
        where = session.first_overflow(verifier.frames[0][1])
        if where:
            raise GateFailed(f"{failure}; {where!r} is the first result beyond float16's 65504",
                             try_="--precision fp32") from failure
        raise
    before[:] = [after]
    if on_mac():
        mac = CoremlSession(package, artifact)
        checks.append(verifier.check(f"{step}, Core ML on this Mac", _as_reference(mac, artifact.output_kind), gate))
    return session


def _as_reference(session: Session, kind: OutputKind) -> Callable[[Any], Any]:
    """Low-resolution logits as the verifier's reference has them: classes last."""
    import numpy as np

    return lambda frame: np.moveaxis(session.run(frame), 1, 3) if kind is OutputKind.LOW else session.run(frame)
