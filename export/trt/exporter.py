"""A network in, a TensorRT plan out: ONNX (exported or reused) → checked for TensorRT → built → run where a GPU is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.request import Say
from export.target import Job, Judged
from runtime.errors import GateFailed, UserError
from runtime.files import cache_folder

if TYPE_CHECKING:
    import onnx

    from export.trt.builders import BuiltPlan
    from export.trt.library import Library
    from export.verify import Verifier
    from runtime.artifact import Artifact, Check
    from runtime.sessions._cuda import Gpu

Size = tuple[int, int]

NOT_EXECUTED = Judged.BUILT.value
"""Stated where no GPU has run the plan."""


@dataclass(frozen=True)
class PlanOptions:
    """How a plan is built from an ONNX artifact.

    Attributes:
        precision: "fp16" turns a float32 graph into float16; None keeps the artifact's own.
        sm: compute capabilities as SM numbers, TensorRT-RTX only; empty for its default.
        workspace_mib: limit of the scratch memory.
        profile: smallest, usual and largest (H, W) of a dynamic graph.
        frames: folder of images to verify on; None for frames that we draw.
        inspect: say every layer.
    """

    precision: str | None = None
    sm: tuple[int, ...] = ()
    workspace_mib: int | None = None
    profile: tuple[Size, Size, Size] | None = None
    frames: Path | None = None
    inspect: bool = False


def plan_from_onnx(source: Path, out: Path, library: Library, gpu: Gpu | str, options: PlanOptions,
                   say: Say = lambda line: None) -> Path:
    """Build a plan, and run it against the ONNX file where there is a GPU.

    Args:
        source: an ONNX artifact.
        out: folder for the plan and its JSON; made when missing.
        library: what builds.
        gpu: the GPU of this machine, or why there is none.
        options: see there.
        say: receives one line per step.

    Returns:
        The plan's path.

    Raises:
        UserError: TensorRT does not take the graph, or the options do not fit it.
        GateFailed: the plan's output does not agree with the graph's; nothing is left in `out`.
    """
    from export.trt.builders import Settings, build_plan
    from export.trt.inspect import counts, rows_of_network, table
    from export.trt.verify import PlanCheck, onnx_verifier
    from runtime.artifact import open_artifact, publish
    from runtime.sessions._plan import plan_name

    given, path = open_artifact(source)
    _check_profile(given, options.profile)
    verifier = onnx_verifier(given, path, options.frames)
    model, precision, check, kept = _graph(given, path, verifier, options, say)
    wanted = dataclasses.replace(
        given, target="trt", precision=precision, tools=dict(given.tools) | {library.name: library.version},
        verification=(*given.verification, check))
    there = gpu if not isinstance(gpu, str) else None
    settings = Settings(plan_name(wanted), options.sm, options.workspace_mib,
                        _shapes(options.profile), _timing_cache(library, there))
    plan = build_plan(library, model.SerializeToString(), settings, there)
    _check_plan(plan, wanted, settings.name)
    for warning in plan.warnings:
        say(f"{library.title}: {warning}")
    if options.inspect and there is None:
        say(table(rows_of_network(plan.layers)))
        say("layers of the network as it was given to the builder; what was fused and which kernels run is known "
            "where a GPU opens the plan")
    wanted = dataclasses.replace(wanted, details={
        "library": library.name, "version": library.version, "chosen_because": library.why,
        "compute_capabilities": list(plan.compute_capabilities), "status": NOT_EXECUTED,
        "source": {"file": given.file, "sha256": given.sha256},
        "profile": options.profile, "layers": counts(plan.layers), "activation_bytes": plan.activation_bytes,
        "kept_in_float32": kept})
    name = f"{_stem(given, wanted)}-{'rtx' if library.rtx else 'trt'}{''.join(f'-sm{n}' for n in options.sm)}.plan"
    run = PlanCheck(verifier, options.inspect, say) if there else _unexecuted

    def write(temporary: Path) -> None:
        temporary.write_bytes(plan.data)

    publish(wanted, out / name, write, run)
    say(_summary(out / name, wanted, plan, library, gpu))
    return out / name


def _unexecuted(artifact: Artifact, plan: Path) -> Artifact:
    return artifact


def onnx_artifact(job: Job) -> Path:
    """The ONNX artifact that a plan starts from: used again when nothing changed, exported and verified otherwise."""
    from export.build import build

    return build("onnx", dataclasses.replace(job, data=None))


def _stem(given: Artifact, wanted: Artifact) -> str:
    return Path(given.file).stem.replace(f"-{given.precision}", f"-{wanted.precision}")


def _graph(given: Artifact, path: Path, verifier: Verifier, options: PlanOptions,
           say: Say) -> tuple[onnx.ModelProto, str, Check, list[dict[str, Any]]]:
    """What the builder gets, its precision, how well it agrees with the artifact, and the nodes kept in float32."""
    import onnx

    from export.difference import Trace
    from export.onnx import fp16_ranges
    from export.traces import of_onnx
    from export.trt.graph import check_for_tensorrt, ready_for_tensorrt
    from export.verify import FP16, FP32, describe
    from runtime.sessions.onnx import OnnxSession

    model, precision, gate = onnx.load(path), options.precision or given.precision, FP32
    check_for_tensorrt(model)
    kept = list(given.details.get("kept_in_float32", []))
    if precision == "fp16" and given.precision == "fp32":
        model, found = fp16_ranges.float16_where_safe(model, [frame for _, frame in verifier.frames])
        say(fp16_ranges.describe(found))
        kept, gate = [dataclasses.asdict(node) for node in found], FP16
    elif precision != given.precision:
        raise UserError(f"--precision {precision} was received, and {path.name} is {given.precision}",
                        try_=f"python -m export.trt {given.name} --precision {precision}" if precision != "int8" else
                        f"python -m calibration {given.name} --data DIR, and then its artifact")
    model = ready_for_tensorrt(model)
    traces = [Trace(path.name, lambda frame: of_onnx(onnx.load(path))(frame)),
              Trace("graph for TensorRT", of_onnx(model))]
    session = OnnxSession(model.SerializeToString(), optimise=precision != "int8")  # as in `onnx_verifier`
    check = verifier.check("graph for TensorRT vs onnx", session.run, gate, traces)
    say(describe(check))
    return model, precision, check, kept


def _check_profile(given: Artifact, profile: tuple[Size, Size, Size] | None) -> None:
    dynamic = 0 in given.input.shape
    if dynamic and not profile:
        raise UserError(f"{given.file} takes frames of any size; a plan needs a range",
                        try_="--min 256x512 --opt 512x1024 --max 1024x2048")
    if profile and not dynamic:
        raise UserError(f"--min, --opt and --max were received, and {given.file} is for {given.input.shape[1]}x"
                        f"{given.input.shape[2]} only", try_=f"python -m export.onnx {given.name} --dynamic")
    if profile and not all(a <= b <= c for a, b, c in zip(*profile)):
        raise UserError(f"--min, --opt and --max are {profile}; expected each no larger than the next")


def _shapes(profile: tuple[Size, Size, Size] | None) -> Any:
    return profile and tuple((1, height, width, 3) for height, width in profile)


def _timing_cache(library: Library, gpu: Gpu | None) -> Path | None:
    """One file per library version and GPU model, as measured tactics hold for no other."""
    if gpu is None or library.rtx:
        return None
    return cache_folder() / f"tensorrt-{library.version}-{gpu.name.replace(' ', '-')}-sm{gpu.sm}.timing"


def _check_plan(plan: BuiltPlan, wanted: Artifact, name: str) -> None:
    """What can be held against a plan without a GPU: its border, and that it carries our name unchanged."""
    expected = [(t.name, t.shape, {"float32": "float"}.get(t.dtype, t.dtype)) for t in (wanted.input, wanted.output)]
    found = [*plan.inputs, *plan.outputs]
    if found != expected:
        raise GateFailed(f"the network that TensorRT read has the tensors {found}; the artifact's are {expected}")
    if name.encode() not in plan.data:
        raise GateFailed("the plan does not hold the network's name, which identifies it; nothing was written")


def _summary(path: Path, artifact: Artifact, plan: BuiltPlan, library: Library, gpu: Gpu | str) -> str:
    from export.weights import summary

    activations = "" if plan.activation_bytes is None else f", {plan.activation_bytes / 1e6:.1f} MB of activations"
    state = f"{NOT_EXECUTED} ({gpu})" if isinstance(gpu, str) else f"executed on {gpu.name}"
    return (f"{path}: {len(plan.data) / 1e6:.1f} MB{activations}, built by {library.title} in {plan.seconds:.1f} s for "
            f"compute capability {', '.join(plan.compute_capabilities)}, {summary(artifact.weights)}; {state}")
