"""`python -m export.trt`: a network in, a TensorRT plan for an NVIDIA GPU or a Jetson out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from export.command import job_from, write_record
from export.request import arguments
from export.trt import TARGET
from export.trt.machine import gpu_here
from runtime import cli
from runtime.artifact import OutputKind, json_path, open_artifact
from runtime.errors import UserError


def _sm(text: str) -> tuple[int, ...]:
    """Parse "86,89" or "8.6,8.9"."""
    try:
        return tuple(int(part.strip().replace(".", "")) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} was received; expected compute capabilities, e.g. 86,89") from None


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m export.trt`: a network in, a TensorRT plan for an NVIDIA GPU or a Jetson out."""
    parser = arguments("export.trt", "Build a TensorRT plan, on a GPU machine or on one without.",
                       "python -m export.trt lraspp --precision fp16 --frames photos/")
    parser.add_argument("--output", choices=[k.value for k in OutputKind],
                        help="classes: uint8 class map; low and logits: float32; default: classes")
    parser.add_argument("--precision", choices=TARGET.precisions,
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
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write what was made as JSON, for scripts")
    parser.set_defaults(allow_few=False, data=None, max_frames=None, max_drop=1.0)
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    from export.trt.exporter import PlanOptions, plan_from_onnx
    from export.trt.library import choose

    cli.need("exporting", "export", "onnx", "torch")
    sizes = (args.min, args.opt, args.max)
    if any(sizes) and not all(sizes):
        raise UserError("--min, --opt and --max belong together; expected all three or none")
    here = gpu_here()
    library = choose(args.runtime, args.sm, here)
    print(f"builder: {library}")
    given = _given(args)
    source = given or _exported(args)
    precision = args.precision if given else None
    if given and precision == "int8":
        source, precision = _calibrated(args, given), None
    options = PlanOptions(precision, args.sm, args.workspace, sizes if all(sizes) else None, args.frames, args.inspect)
    plan = plan_from_onnx(source, args.out, library, here, options, say=print)
    return write_record(args, plan, open_artifact(plan)[0])


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
    """The ONNX artifact of a network's name."""
    from export.trt.exporter import onnx_artifact

    if args.precision == "int8":
        _images(args)
    args.output, args.precision = args.output or TARGET.outputs[0], args.precision or TARGET.precisions[0]
    args.size = args.opt or args.size
    return onnx_artifact(job_from(args, dynamic=args.opt is not None))


def _calibrated(args: argparse.Namespace, source: Path) -> Path:
    """The portable INT8 artifact of a float32 one; itself where it is INT8 already."""
    from calibration.recipe import build
    from calibration.request import CalibrationRequest
    from export.onnx.exporter import JUDGED

    artifact, engine = open_artifact(source)
    if artifact.precision == "int8":
        return source
    return build(CalibrationRequest(artifact, engine, _images(args), args.out, judge_on=JUDGED), say=print).path


def _images(args: argparse.Namespace) -> Path:
    """The images that INT8 is calibrated with."""
    if args.calibration is None:
        raise UserError("--precision int8 needs images to calibrate with",
                        try_="--calibration DIR, or python -m calibration NAME --data DIR and its artifact")
    return Path(args.calibration)


if __name__ == "__main__":
    sys.exit(main())
