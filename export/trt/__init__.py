"""A network in, a TensorRT plan out: ONNX (exported or reused) → checked for TensorRT → built → run where a GPU is."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.request import Say, arguments, name_of, request
from runtime import cli
from runtime.artifact import OutputKind, json_path
from runtime.errors import GateFailed, UserError
from runtime.files import cache_folder, in_one_piece

if TYPE_CHECKING:
    import onnx

    from export.trt.builders import Plan
    from export.trt.library import Library
    from export.trt.verify import PlanCheck
    from export.verify import Verifier
    from runtime.artifact import Artifact, Check
    from runtime.cuda import Gpu

Size = tuple[int, int]

JUDGED = 64
"""Frames that a calibration on the way is judged on; `python -m calibration` judges on many more."""

NOT_EXECUTED = "built, not executed"
"""Said where no GPU has run the plan."""


@dataclass(frozen=True)
class Options:
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


def build(source: Path, out: Path, library: Library, gpu: Gpu | str, options: Options,
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
    from runtime.artifact import open_artifact
    from runtime.plan import plan_name

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
    out.mkdir(parents=True, exist_ok=True)
    written = _write(wanted, plan, out / name, PlanCheck(verifier, options.inspect, say) if there else None)
    say(_summary(written, wanted, plan, library, gpu))
    return written


def _stem(given: Artifact, wanted: Artifact) -> str:
    return Path(given.file).stem.replace(f"-{given.precision}", f"-{wanted.precision}")


def _graph(given: Artifact, path: Path, verifier: Verifier, options: Options,
           say: Say) -> tuple[onnx.ModelProto, str, Check, list[dict[str, Any]]]:
    """What the builder gets, its precision, how well it agrees with the artifact, and the nodes kept in float32."""
    import onnx

    from export.onnx import fp16_ranges
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
    session = OnnxSession(model.SerializeToString(), optimise=precision != "int8")  # as in `onnx_verifier`
    check = verifier.check("graph for TensorRT vs onnx", session.run, gate)
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


def _check_plan(plan: Plan, wanted: Artifact, name: str) -> None:
    """What can be held against a plan without a GPU: its border, and that it carries our name unchanged."""
    expected = [(t.name, t.shape, {"float32": "float"}.get(t.dtype, t.dtype)) for t in (wanted.input, wanted.output)]
    found = [*plan.inputs, *plan.outputs]
    if found != expected:
        raise GateFailed(f"the network that TensorRT read has the tensors {found}; the artifact's are {expected}")
    if name.encode() not in plan.data:
        raise GateFailed("the plan does not hold the network's name, by which it is told apart; nothing was written")


def _write(wanted: Artifact, plan: Plan, path: Path, check: PlanCheck | None) -> Path:
    """Write the plan under a temporary name, run it where that is possible, rename it, and put its JSON beside it."""
    from runtime.artifact import engine_sha256, write_artifact

    with in_one_piece(path) as temporary:
        temporary.write_bytes(plan.data)
        artifact = dataclasses.replace(wanted, file=path.name, sha256=engine_sha256(temporary))
        if check:
            artifact = check(artifact, temporary)
    write_artifact(artifact, path)
    return path


def _summary(path: Path, artifact: Artifact, plan: Plan, library: Library, gpu: Gpu | str) -> str:
    from export.weights import told

    activations = "" if plan.activation_bytes is None else f", {plan.activation_bytes / 1e6:.1f} MB of activations"
    state = f"{NOT_EXECUTED} ({gpu})" if isinstance(gpu, str) else f"executed on {gpu.name}"
    return (f"{path}: {len(plan.data) / 1e6:.1f} MB{activations}, built by {library.title} in {plan.seconds:.1f} s for "
            f"compute capability {', '.join(plan.compute_capabilities)}, {told(artifact.weights)}; {state}")


def _sm(text: str) -> tuple[int, ...]:
    """Parse "86,89" or "8.6,8.9"."""
    try:
        return tuple(int(part.strip().replace(".", "")) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} was received; expected compute capabilities, e.g. 86,89") from None


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m export.trt`, and `edgeseg-trt`."""
    parser = arguments("export.trt", "Build a TensorRT plan, on a GPU machine or on one without.",
                       "python -m export.trt lraspp --precision fp16 --frames photos/")
    parser.add_argument("--output", choices=[k.value for k in OutputKind],
                        help="classes: uint8 class map; low and logits: float32; default: classes")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"),
                        help="arithmetic; default: fp32, or the artifact's own")
    parser.add_argument("--runtime", choices=("auto", "trt", "rtx"), default="auto",
                        help="trt: TensorRT, for this machine's GPU; rtx: TensorRT-RTX, for any that it serves")
    parser.add_argument("--sm", type=_sm, default=(), metavar="86,89", help="compute capabilities, rtx only; default: "
                        "80, 86, 89, 120 and later in one portable plan")
    parser.add_argument("--workspace", type=cli.positive, metavar="MiB", help="limit of the scratch memory")
    for flag, which in (("--min", "smallest"), ("--opt", "usual"), ("--max", "largest")):
        parser.add_argument(flag, type=cli.size, metavar="HxW", help=f"{which} frame of a plan for many sizes")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="images to calibrate int8 with")
    parser.add_argument("--inspect", action="store_true", help="print every layer")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    from export.trt.library import choose
    from runtime.cuda import gpu

    cli.need("exporting", "export", "onnx", "torch")
    sizes = (args.min, args.opt, args.max)
    if any(sizes) and not all(sizes):
        raise UserError("--min, --opt and --max belong together; expected all three or none")
    try:
        here: Gpu | str = gpu()
    except UserError as error:
        here = error.what
    library = choose(args.runtime, args.sm, here)
    print(f"builder: {library}")
    given = _given(args)
    source, precision = given or _exported(args), args.precision if given else None
    if args.precision == "int8":
        source, precision = _calibrated(args, source), None
    options = Options(precision, args.sm, args.workspace, sizes if all(sizes) else None, args.frames, args.inspect)
    build(source, args.out, library, here, options, say=print)
    return 0


def _given(args: argparse.Namespace) -> Path | None:
    """The artifact that was named instead of a network; None for a network, which a plain FILE.onnx is too."""
    path = Path(args.name)
    if path.suffix != ".json" and not (path.suffix == ".onnx" and json_path(path).is_file()):
        return None
    ignored = [f"--{name}" for name in ("spec", "weights", "classes", "size", "output")
               if getattr(args, name) is not None]
    if ignored:
        raise UserError(f"{', '.join(ignored)} were received together with {args.name}, which is exported already",
                        try_="the network's name instead of the file, or the file alone")
    return path


def _exported(args: argparse.Namespace) -> Path:
    """The ONNX artifact of a network's name: reused when nothing changed, exported and verified otherwise."""
    from export import onnx as exporter
    from export.reuse import unchanged

    wanted = request(name_of(args), weights=args.weights, classes=args.classes, size=args.opt or args.size,
                     output=OutputKind(args.output or "classes"), dynamic=args.opt is not None,
                     precision="fp16" if args.precision == "fp16" else "fp32")
    path: Path = args.out / f"{wanted.stem}.onnx"
    if unchanged(path, wanted, args.frames):
        print(f"{path}: unchanged, used again")
        return path
    return exporter.build(wanted, args.out, frames=args.frames, say=print)


def _calibrated(args: argparse.Namespace, source: Path) -> Path:
    """The portable INT8 artifact of a float32 one; itself where it is INT8 already."""
    from calibration.recipe import Request, build
    from runtime.artifact import open_artifact

    artifact, engine = open_artifact(source)
    if artifact.precision == "int8":
        return source
    if args.calibration is None:
        raise UserError("--precision int8 needs images to calibrate with",
                        try_="--calibration DIR, or python -m calibration NAME --data DIR and its artifact")
    return build(Request(artifact, engine, args.calibration, args.out, exam=JUDGED), say=print).path
