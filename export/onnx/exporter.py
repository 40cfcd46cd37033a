"""A network in, a verified ONNX file out: torch → ONNX → simplified → rewritten for the engines → (fp16 or int8)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.request import Request, tools
from export.target import HOST, Job
from runtime.errors import UserError

if TYPE_CHECKING:
    import onnx

    from runtime.artifact import Check
    from runtime.preprocess import Frame

JUDGED = 64
"""Frames that a calibration on the way is judged on; `python -m calibration` judges on more."""

OPSET = 18
"""The newest operator set that every engine we feed takes: GridSample is wrong in TensorRT from 20 on."""


def exported(job: Job) -> Path:
    """Export in float, verifying after every step.

    Returns:
        The `.onnx` file's path.

    Raises:
        GateFailed: a step's output does not agree with the network's; nothing is left in `job.out`.
    """
    import onnx

    from export.difference import Trace
    from export.onnx import fp16_ranges
    from export.onnx.graph import (
        gelu_as_engines_know_it,
        global_pool_from_reduce_mean,
        prelu_as_maximum,
        without_names_of_the_build,
    )
    from export.onnx.interpolation import pointwise_before_interpolation
    from export.onnx.simplify import simplified
    from export.origins.onnx_network import OnnxNetwork
    from export.reference import torch_verifier
    from export.traces import of_onnx
    from export.verify import FP16, FP32, describe

    wanted, say = job.request, job.say
    details: dict[str, Any] = {}
    checks: list[Check] = []
    verifier = torch_verifier(wanted, job.frames)
    before = list(verifier.traces)

    def verified(step: str, model: onnx.ModelProto, gate: Any) -> onnx.ModelProto:
        after = Trace(step.partition(" vs ")[0], of_onnx(model))
        checks.append(verifier.check(step, _runner(model), gate, [*before, after]))
        before[:] = [after]
        say(describe(checks[-1]))
        return model

    origin = "file" if isinstance(wanted.network, OnnxNetwork) else "torch"
    model = verified(f"onnx vs {origin}", onnx_from_file(wanted) if origin == "file" else onnx_from_torch(wanted), FP32)
    if wanted.simplify:
        model = verified(f"simplified vs {origin}", simplified(model), FP32)
    model = prelu_as_maximum(gelu_as_engines_know_it(global_pool_from_reduce_mean(model)))
    model = verified(f"rewritten vs {origin}", without_names_of_the_build(model), FP32)
    if (moved := pointwise_before_interpolation(model)) != model:
        model = verified(f"pointwise first vs {origin}", moved, FP32)
    if wanted.precision == "fp16":
        model, kept = fp16_ranges.float16_where_safe(model, [frame for _, frame in verifier.frames])
        say(fp16_ranges.describe(kept))
        details["kept_in_float32"] = [dataclasses.asdict(node) for node in kept]
        verified(f"fp16 vs {origin}", model, FP16)
    onnx.checker.check_model(model, full_check=True)
    return _publish(job, model, tuple(checks), details)


def quantised(job: Job) -> Path:
    """Export in float32, and calibrate that file: one portable INT8 file.

    Raises:
        UserError: there is nothing to calibrate on.
        GateFailed: a gate of either step; what holds so far is kept.
    """
    from calibration import recipe
    from calibration.request import CalibrationRequest
    from export.accuracy import reopened_within_budget
    from export.build import build
    from runtime.artifact import open_artifact

    if job.calibration is None:
        raise UserError("--precision int8 needs images to calibrate with", try_="--calibration DIR")
    float_job = dataclasses.replace(job, request=dataclasses.replace(job.request, precision="fp32"), calibration=None,
                                    data=None)
    artifact, path = open_artifact(build("onnx", float_job))
    wanted = CalibrationRequest(artifact, path, job.calibration, job.out, allow_few=job.allow_few,
                                judge_on=JUDGED, made_for=job.form)
    return recipe.build(wanted, say=job.say, accept=partial(reopened_within_budget, job, "ONNX Runtime")).path


def onnx_from_torch(wanted: Request) -> onnx.ModelProto:
    """Write the network in its wrapper as an ONNX graph: uint8 [1, H, W, 3] "frame" → `wanted.output`."""
    import torch

    from export.quiet import quiet, refusing
    from export.wrapper import Deployable, traced

    module = Deployable(wanted.network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners)
    frame = torch.zeros(1, *wanted.spec.preprocess.size, 3, dtype=torch.uint8)
    sizes = ({1: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO},) if wanted.dynamic else None
    with quiet(), refusing("torch.onnx", wanted.spec.name,
                           try_="python -m export.ncnn or export.litert, which have converters of their own"):
        program = torch.onnx.export(traced(module, frame, dynamic_shapes=sizes), dynamo=True, opset_version=OPSET,
                                    verbose=False, input_names=["frame"], output_names=[wanted.output.value])
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def onnx_from_file(wanted: Request) -> onnx.ModelProto:
    """A user's ONNX file with our input and output: uint8 [1, H, W, 3] "frame" → `wanted.output`."""
    from export.origins.onnx_network import OnnxNetwork, onnx_from_onnx

    assert isinstance(wanted.network, OnnxNetwork)
    if wanted.dynamic:
        raise UserError("--dynamic was received for an ONNX file, which keeps its own size", try_="leave --dynamic out")
    return onnx_from_onnx(wanted.network, wanted.spec, wanted.output)


def _runner(model: onnx.ModelProto) -> Callable[[Frame], Any]:
    from runtime.sessions.onnx import OnnxSession

    return OnnxSession(model.SerializeToString()).run


def _publish(job: Job, model: onnx.ModelProto, checks: tuple[Check, ...], details: dict[str, Any]) -> Path:
    """Write the file and its JSON; what was written is opened once more before it counts."""
    import onnx

    from export.accuracy import reopened_within_budget
    from export.describe import described
    from runtime.artifact import publish

    out, path = model.graph.output[0], job.out / f"{job.request.stem}.onnx"
    artifact = described(
        job.request, "onnx", tools=tools(*HOST), shape=[d.dim_value for d in out.type.tensor_type.shape.dim],
        names=(model.graph.input[0].name, out.name), verification=checks, details=details)
    publish(artifact, path, lambda temporary: onnx.save_model(model, temporary),
            partial(reopened_within_budget, job, "ONNX Runtime"))
    return path
